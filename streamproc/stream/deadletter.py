"""A record that failed <-> its dead letter. Pure.

A dead letter is the record itself (key, value, timestamp, headers) with headers that say where it came from and why.
Names: `__streamproc.errors.*`, and by option those of Kafka Connect's `DeadLetterQueueReporter`, which most tools
read. Failure headers that the record brought along are never trusted and replaced.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from streamproc.core.letters import Letter
from streamproc.model import OutRecord, Record

OURS = "__streamproc.errors."
CONNECT = "__connect.errors."
MESSAGE_MAX = 1_000
STACKTRACE_MAX = 8_000
HEADERS_MAX = 100
HEADER_BYTES_MAX = 65_536
VALUE_KEPT_MAX = 1_024
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
    topic = options.topic.format(topic=letter.partition.topic)
    return OutRecord(topic, value, record.key, headers, _stamp(record))


def truncated(letter: Letter, options: DeadLetterOptions) -> OutRecord:
    """The dead letter of a record the broker refuses for its size: the value's beginning; the source names the rest."""
    record = letter.entry.batch.records[letter.index]
    headers = [*_ours(letter, options), (OURS + "value.truncated", str(len(record.value or b"")).encode())]
    topic = options.topic.format(topic=letter.partition.topic)
    key = record.key if len(record.key or b"") <= VALUE_KEPT_MAX else None
    return OutRecord(topic, (record.value or b"")[:VALUE_KEPT_MAX], key, headers, _stamp(record))


def _stamp(record: Record) -> int | None:
    """The record's own time, None where it has none."""
    stamp = record.timestamp
    return None if stamp is None or stamp < 0 else stamp


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
