"""Logging for programs: one JSON object a line for machines, short text for people, secrets for nobody."""

import logging
import os
import re
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from datetime import UTC, datetime
from json import dumps as dumps_anything
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO
from urllib.parse import quote

import msgspec
import orjson
from msgspec import Meta

MESSAGE_MAX = 500
"""Characters kept of an exception's message."""
STACKTRACE_MAX = 16_000
"""Characters kept of a stack trace, counted from its end, where the cause is."""

REPEAT_S = 60.0
"""A warning of Kafka's client, or of this package, that is like one before it is written once in so many seconds."""
KINDS_MAX = 1_000
"""Kinds of warnings that are remembered."""

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_COUNT = re.compile(r"(?<![\w.-])\d[\d.,:]*(?![\w-])")
"""A number by itself, as in `3 events` or `after 2.5 s`; not one in a name, as in `events-3`."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_ANY_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class LogOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[log]`."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="the least that is written")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto is text on a terminal and JSON elsewhere")
    ] = "auto"


def configure(options: LogOptions, secrets: Collection[str], *, stream: TextIO | None = None) -> None:
    """Sends the log of the whole process to `stream` (standard error), instead of what was configured before.

    None of `secrets` appears in it, whoever logs it: not in messages, fields, errors or stack traces.
    """
    target = stream or sys.stderr
    as_text = options.format == "text" or (options.format == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter((TextFormatter if as_text else JsonFormatter)(Mask(secrets)))
    handler.addFilter(Repeats())
    logging.basicConfig(level=options.level.upper(), handlers=[handler], force=True)
    for chatty in ("aiokafka", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)  # ten lines a second for a missing topic
    logging.captureWarnings(True)
    # Nothing here shows them, and each costs every line a system call.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Its report of a failed write would print the arguments of the log call, unmasked.
    logging.raiseExceptions = False


class Repeats(logging.Filter):
    """Lets the first warning of a kind through, then one in `REPEAT_S`, with how many there were in between.

    An outage makes the client of Kafka write thousands of lines a minute. Of the client, lines are of one kind that
    have one template; of this package, those that are equal up to counts. What an application logs is left alone, and
    so is what has a stack trace.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._kinds: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns False for a line that is left out; gives one that stands for others the field `suppressed`."""
        kind = _kind(record)
        if kind is None:
            return True
        now = self._now()
        again_at, suppressed = self._kinds.pop(kind, (now, 0))
        if now < again_at:
            self._kinds[kind] = again_at, suppressed + 1
            return False
        self._kinds[kind] = now + REPEAT_S, 0
        if len(self._kinds) > KINDS_MAX:
            self._kinds.popitem(last=False)
        if suppressed:
            record.suppressed = suppressed
        return True


def _kind(record: logging.LogRecord) -> Hashable:
    """Returns what a record is one of many of; None where each counts."""
    if record.levelno < logging.WARNING:
        return None
    if record.name.partition(".")[0] == "aiokafka":
        return record.name, record.levelno, str(record.msg)
    if record.pathname.startswith(_PACKAGE) and not record.exc_info:
        return record.name, record.levelno, _COUNT.sub("#", _message(record))
    return None


class Mask:
    """Replaces secrets by `***`, also where they are quoted, escaped or part of a URL."""

    def __init__(self, secrets: Collection[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    @property
    def hides(self) -> bool:
        """Whether there is any secret."""
        return self._secrets is not None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return self._secrets.sub("***", text) if self._secrets else text


def _forms(secret: str) -> tuple[str, ...]:
    as_json = dumps_anything(secret)[1:-1], dumps_anything(secret, ensure_ascii=False)[1:-1]
    return secret, repr(secret)[1:-1], *as_json, quote(secret, safe="")


class _Formatter(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is known of a log record: time, level, logger, message, then its LoggerAdapter's fields."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": stamp.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._mask(_message(record)),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD and name not in fields:
                fields[name] = self._plain(value)
        if record.exc_info and (error := record.exc_info[1]) is not None:
            fields["error"] = type(error).__name__
            fields["error_message"] = _ANY_CONTROL.sub("", self._mask(_text(error)))[:MESSAGE_MAX]
            fields["stacktrace"] = self._stacktrace(error)
        return fields

    def _plain(self, value: Any) -> Any:
        is_plain = value is None or isinstance(value, bool | int | float)
        if is_plain and not self._mask.hides:
            return value
        masked = self._mask(_text(value))
        return value if is_plain and masked == str(value) else masked

    def _stacktrace(self, error: BaseException) -> str:
        parts = traceback.TracebackException.from_exception(error).format()
        # Each part is one frame or one message; a message may quote a whole payload.
        capped = (part if len(part) <= MESSAGE_MAX else part[:MESSAGE_MAX] + "...\n" for part in map(self._mask, parts))
        return _CONTROL.sub("", "".join(capped))[-STACKTRACE_MAX:]


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a log record."""
        fields = self.fields(record)
        try:
            return orjson.dumps(fields).decode()
        except TypeError:  # lone surrogates and integers beyond 64 bits
            return dumps_anything(fields)


class TextFormatter(_Formatter):
    """Time of day, level, logger, message and fields; a stack trace follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a log record."""
        fields = self.fields(record)
        head = [
            datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S"),
            record.levelname,
            record.name,
        ]
        stacktrace = fields.pop("stacktrace", "")
        rest = [f"{name}={value}" for name, value in list(fields.items())[4:]]
        line = _ANY_CONTROL.sub(" ", " ".join([*head, fields["message"], *rest]))
        return f"{line}\n{stacktrace}".rstrip() if stacktrace else line


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong log call must not cost its message
        return f"{_text(record.msg)} (its arguments do not fit)"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
