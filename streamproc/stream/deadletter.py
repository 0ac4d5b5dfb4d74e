"""A record that failed <-> its dead letter. Pure.

A dead letter is the record itself (key, value, headers) with headers that say where it came from, when, and why; its
own time is that of the send, by which retention goes. Names: `__streamproc.errors.*`, and by option those of Kafka
Connect's `DeadLetterQueueReporter`, which most tools read. Failure headers that the record brought along are never
trusted and replaced.

What the broker will never take whole (for its size, a header, a missing key) is sent in a smaller form, the next of
`FORMS`; the last is no more than the record's position.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from streamproc.core.letters import Letter
from streamproc.model import OutRecord

OURS = "__streamproc.errors."
CONNECT = "__connect.errors."
MESSAGE_MAX = 1_000
STACKTRACE_MAX = 8_000
HEADERS_MAX = 100
HEADER_BYTES_MAX = 65_536
VALUE_KEPT_MAX = 1_024
CONDITION_KEPT_MAX = 64
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class DeadLetterOptions:
    """Where dead letters go: `topic` with `{topic}` for the source topic, and the second set of headers."""

    topic: str
    headers: Literal["connect", "none"]
    group: str


def clean(text: str, limit: int) -> str:
    """Text for a header: no control characters but tab and newline, at most `limit` characters."""
    return _CONTROL.sub(" ", text)[:limit]


def dead_letter(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The dead letter of a record, with the record's value byte for byte."""
    record = letter.entry.batch.records[letter.index]
    headers = [*_kept(letter), *_ours(letter, options)]
    if options.headers == "connect":
        headers += _connect(letter, options)
    value = record.value
    if value is None and record.key is None:
        value = b""
        headers.append((OURS + "value.null", b"true"))
    return OutRecord(_topic(letter, options), value, record.key, headers)


def plain(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The dead letter without the headers that the record brought along; its position is its key if it has none."""
    record = letter.entry.batch.records[letter.index]
    return _cut(letter, options, value=record.value, key=record.key)


def truncated(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The dead letter with the beginning of the value; the source has the rest."""
    record = letter.entry.batch.records[letter.index]
    key = record.key if len(record.key or b"") <= VALUE_KEPT_MAX else None
    return _cut(letter, options, value=(record.value or b"")[:VALUE_KEPT_MAX], key=key)


def bare(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The headers of the dead letter alone."""
    return _cut(letter, options, value=None, key=None)


def pointer(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The record's position and the condition alone, for which nothing of the record need be read."""
    fields = {
        "topic": letter.partition.topic,
        "partition": str(letter.partition.partition),
        "offset": str(letter.offset),
        "condition": clean(letter.condition, CONDITION_KEPT_MAX),
    }
    headers = [(OURS + name, value.encode("utf-8", "replace")) for name, value in fields.items()]
    return OutRecord(_topic(letter, options), b"", _position(letter), headers)


FORMS: Sequence[Callable[[Letter, DeadLetterOptions], OutRecord]] = (dead_letter, plain, truncated, bare, pointer)
"""The forms of a dead letter, each smaller than the one before."""


def _cut(letter: Letter, options: DeadLetterOptions, *, value: bytes | None, key: bytes | None) -> OutRecord:
    record = letter.entry.batch.records[letter.index]
    headers: list[tuple[str, bytes]] = _ours(letter, options)
    if record.value is None:
        headers.append((OURS + "value.null", b"true"))
    elif len(value or b"") < len(record.value):
        headers.append((OURS + "value.truncated", str(len(record.value)).encode()))
    if record.key is None:
        headers.append((OURS + "key.null", b"true"))
    elif key is None:
        headers.append((OURS + "key.truncated", str(len(record.key)).encode()))
    return OutRecord(_topic(letter, options), value or b"", _position(letter) if key is None else key, headers)


def _topic(letter: Letter, options: DeadLetterOptions) -> str:
    return options.topic.format(topic=letter.partition.topic)


def _position(letter: Letter) -> bytes:
    return f"{letter.partition.topic}/{letter.partition.partition}/{letter.offset}".encode()


def _kept(letter: Letter) -> Iterator[tuple[str, bytes | None]]:
    size = 0
    for name, value in letter.entry.batch.records[letter.index].headers[:HEADERS_MAX]:
        size += len(name) + len(value or b"")
        if size <= HEADER_BYTES_MAX and not name.startswith((OURS, CONNECT)):
            yield name, value


def _ours(letter: Letter, options: DeadLetterOptions) -> list[tuple[str, bytes]]:
    record = letter.entry.batch.records[letter.index]
    failed_at = datetime.fromtimestamp(letter.since, UTC).isoformat() if letter.since else ""
    fields = {
        "topic": letter.partition.topic,
        "partition": str(letter.partition.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp),
        "group": options.group,
        "handler": letter.function,
        "event.type": letter.event_type,
        "exception": letter.failure.error,
        "message": clean(letter.failure.message, MESSAGE_MAX),
        "stacktrace": clean(letter.failure.stacktrace, STACKTRACE_MAX),
        "attempts": str(letter.attempts),
        "first.failed.at": failed_at,
        "condition": clean(letter.condition, MESSAGE_MAX),
    }
    return [(OURS + name, value.encode("utf-8", "replace")) for name, value in fields.items() if value]


def _connect(letter: Letter, options: DeadLetterOptions) -> list[tuple[str, bytes]]:
    record = letter.entry.batch.records[letter.index]
    fields = {
        "topic": letter.partition.topic,
        "partition": str(letter.partition.partition),
        "offset": str(record.offset),
        "connector.name": options.group,
        "task.id": "0",
        "stage": "TASK_PUT" if letter.function else "VALUE_CONVERTER",
        "class.name": letter.function or "streamproc.stream.decode",
        "exception.class.name": letter.failure.error,
        "exception.message": clean(letter.failure.message, MESSAGE_MAX),
        "exception.stacktrace": clean(letter.failure.stacktrace, STACKTRACE_MAX),
    }
    return [(CONNECT + name, value.encode("utf-8", "replace")) for name, value in fields.items() if value]
