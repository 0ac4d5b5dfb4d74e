"""The log: what a line holds, and what it never holds."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from streamproc.adapters.logs import MESSAGE_MAX, STACKTRACE_MAX, LogOptions, configure

CANARY = 'c4nary"\\-ö Pa55/word'


Raised = TypeVar("Raised", bound=BaseException)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def started(options: LogOptions | None = None, *secrets: str) -> io.StringIO:
    stream = io.StringIO()
    configure(options or LogOptions(), secrets, stream=stream)
    return stream


def raised(error: Raised) -> Raised:
    with pytest.raises(type(error)):
        raise error
    return error


def test_a_line_has_time_level_logger_message_and_the_fields_of_the_adapter() -> None:
    stream = started()
    log = logging.LoggerAdapter(logging.getLogger("shop"), {"function": "take_stock", "offset": 7, "key": b"k"})
    log.warning("only %d left", 2)
    [line] = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "shop",
        "message": "only 2 left",
        "function": "take_stock",
        "offset": 7,
        "key": "b'k'",
    }


def test_time_is_utc_in_rfc_3339() -> None:
    stream = started()
    record = logging.makeLogRecord({"created": 1_769_860_800.25, "levelno": logging.INFO, "msg": "noon"})
    logging.getLogger().handle(record)
    assert lines(stream)[0]["time"] == "2026-01-31T12:00:00.250Z"


def test_a_field_cannot_replace_time_level_logger_or_message() -> None:
    stream = started()
    logging.LoggerAdapter(logging.getLogger("shop"), {"level": "none", "logger": "none"}).info("hello")
    assert (lines(stream)[0]["level"], lines(stream)[0]["logger"]) == ("info", "shop")


def test_an_exception_is_type_message_and_stacktrace() -> None:
    stream = started()
    error = raised(ValueError("bad\x1b[31m\r\n thing" + "x" * 2_000))
    logging.getLogger("shop").error("failed", exc_info=error)
    [line] = lines(stream)
    assert line["error"] == "ValueError"
    assert line["error_message"].startswith("bad[31m thingxxx")
    assert len(line["error_message"]) == MESSAGE_MAX
    assert "in raised" in line["stacktrace"]
    assert "\x1b" not in line["stacktrace"]
    assert len(line["stacktrace"]) < 2_000


def test_a_stacktrace_shows_causes_and_groups() -> None:
    stream = started()
    cause = raised(KeyError("cause"))
    error = raised(ExceptionGroup("several", [raised(OSError(f"member {i}" * 500)) for i in range(200)]))
    error.__cause__ = cause
    logging.getLogger("shop").error("failed", exc_info=error)
    [line] = lines(stream)
    assert "several" in line["stacktrace"]
    assert "OSError: member 0member 0" in line["stacktrace"]
    assert "KeyError: 'cause'" in line["stacktrace"]


def test_a_stacktrace_is_cut_at_its_beginning() -> None:
    stream = started()
    error = ValueError("first")
    for number in range(100):
        later = raised(ValueError(f"{number} " + "x" * 400))
        later.__cause__ = error
        error = later
    logging.getLogger("shop").error("failed", exc_info=error)
    stacktrace = lines(stream)[0]["stacktrace"]
    assert len(stacktrace) == STACKTRACE_MAX
    assert "ValueError: 99 xxx" in stacktrace


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_appears_nowhere(form: Any) -> None:
    stream = started(LogOptions(format=form), CANARY, "12345678")
    log = logging.getLogger("shop")
    error = raised(ExceptionGroup(f"group {CANARY}", [ValueError(CANARY), KeyError(CANARY)]))
    error.__cause__ = raised(ConnectionError(f"https://u:{CANARY}@host"))
    log.error("%s and %r", CANARY, CANARY, exc_info=error)
    log.info("no arguments: " + CANARY)
    log.info("%d does not fit", CANARY)
    log.info("as JSON: %s", json.dumps({"password": CANARY}))
    logging.LoggerAdapter(log, {"url": f"kafka://{CANARY}", "pin": 12345678, "all": {"p": [CANARY]}}).info("fields")
    log.info("encoded: c4nary%22%5C-%C3%B6%20Pa55%2Fword")
    text = stream.getvalue()
    assert "c4nary" not in text
    assert "12345678" not in text
    assert text.count("***") >= 9
    assert "does not fit" in text


def test_numbers_that_are_no_secret_stay_numbers() -> None:
    stream = started(None, CANARY)
    logging.LoggerAdapter(logging.getLogger("shop"), {"offset": 7, "ratio": 0.5, "on": True, "none": None}).info("hi")
    line = lines(stream)[0]
    assert (line["offset"], line["ratio"], line["on"], line["none"]) == (7, 0.5, True, None)


def test_what_json_cannot_hold_is_still_logged() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

    stream = started()
    logging.LoggerAdapter(logging.getLogger("shop"), {"big": 2**70, "it": Unprintable()}).info("lone \ud800 surrogate")
    [line] = lines(stream)
    assert (line["big"], line["it"], line["message"]) == (2**70, "<Unprintable>", "lone \ud800 surrogate")


def test_text_on_a_terminal_and_json_elsewhere() -> None:
    stream = Terminal()
    configure(LogOptions(), [], stream=stream)
    log = logging.LoggerAdapter(logging.getLogger("shop"), {"offset": 7})
    log.info("first\x1b[2Jsecond\nthird")
    log.error("failed", exc_info=raised(ValueError("why")))
    first, second, *trace = stream.getvalue().splitlines()
    assert first.split(" ", 1)[1] == "INFO shop first [2Jsecond third offset=7"
    assert second.split(" ", 1)[1] == "ERROR shop failed offset=7 error=ValueError error_message=why"
    assert trace[-1] == "ValueError: why"
    json_on_a_terminal = Terminal()
    configure(LogOptions(format="json"), [], stream=json_on_a_terminal)
    logging.getLogger("shop").info("hi")
    assert lines(json_on_a_terminal)[0]["message"] == "hi"


def test_levels() -> None:
    stream = started(LogOptions(level="warning"))
    logging.getLogger("shop").info("no")
    logging.getLogger("shop").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


def test_the_client_and_the_server_only_warn() -> None:
    stream = started(LogOptions(level="debug"))
    logging.getLogger("aiokafka.consumer.fetcher").info("no")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("aiokafka.conn").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


async def test_a_cancelled_task_is_logged_like_any_error() -> None:
    stream = started()
    logging.getLogger("shop").error("ended", exc_info=raised(asyncio.CancelledError()))
    assert lines(stream)[0]["error"] == "CancelledError"
