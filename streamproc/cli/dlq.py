"""`dlq`: what could not be handled, and why."""

import base64
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from streamproc.cli.common import Source, ask_kafka, cell, json_option, print_json, print_table, settings_options

if TYPE_CHECKING:
    from streamproc.adapters.kafka_tools import StoredRecord
    from streamproc.stream.options import StreamOptions

PREFIX = "__streamproc.errors."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.group()
def dlq() -> None:
    """Look at dead letters.

    \b
    Example:
      streamproc dlq ls events.dlq
    """


@dlq.command("ls")
@click.argument("topic", required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
@settings_options
@json_option
def list_letters(topic: str | None, limit: int, *, source: Source, as_json: bool) -> None:
    """List the dead letters in TOPIC; in those of all input topics when not given.

    \b
    Example:
      streamproc dlq ls events.dlq --limit 10
    """
    from streamproc.adapters import kafka_tools

    settings = source.load().settings
    rows: list[dict[str, Any]] = []
    for one in [topic] if topic else topics(settings.stream):
        rows += [summary(record) for record in ask_kafka(kafka_tools.newest(settings.kafka, one, limit=limit))]
    if as_json:
        print_json(rows)
    else:
        print_table(_COLUMNS, [[row[column] for column in _COLUMNS] for row in rows])


@dlq.command("show")
@click.argument("where", nargs=3, type=(str, int, int), metavar="TOPIC PARTITION OFFSET")
@click.option("--raw", is_flag=True, help="Print the bytes of the value and nothing else.")
@settings_options
@json_option
def show(where: tuple[str, int, int], raw: bool, *, source: Source, as_json: bool) -> None:
    """Show one dead letter: headers and value.

    \b
    Example:
      streamproc dlq show events.dlq 0 17
    """
    from streamproc.adapters import kafka_tools
    from streamproc.model import TopicPartition

    topic, partition, offset = where
    settings = source.load().settings
    record = ask_kafka(kafka_tools.read_one(settings.kafka, TopicPartition(topic, partition), offset=offset))
    if raw:
        sys.stdout.buffer.write(record.value or b"")
    elif as_json:
        print_json(details(record))
    else:
        print_details(details(record))


def topics(options: "StreamOptions") -> list[str]:
    """Where the dead letters of the input topics go."""
    return list(dict.fromkeys(options.dead_letter_topic.replace("{topic}", topic) for topic in options.topics))


def summary(record: "StoredRecord") -> dict[str, Any]:
    """A dead letter in one line: where it lies, where it came from, why."""
    ours = {name.removeprefix(PREFIX): _text(value) for name, value in record.headers if name.startswith(PREFIX)}
    position = f"{ours.get('topic', '?')}-{ours.get('partition', '?')}@{ours.get('offset', '?')}"
    return {
        "topic": record.partition.topic,
        "partition": record.partition.partition,
        "offset": record.offset,
        "time": _time(record),
        "condition": ours.get("condition", ""),
        "event_type": ours.get("event.type", ""),
        "source": position,
        "attempts": ours.get("attempts", ""),
    }


_COLUMNS = ("topic", "partition", "offset", "time", "condition", "event_type", "source", "attempts")


def details(record: "StoredRecord") -> dict[str, Any]:
    """A dead letter whole; keys and values that are not UTF-8 text are base64, under names that say so."""
    return {
        "topic": record.partition.topic,
        "partition": record.partition.partition,
        "offset": record.offset,
        "time": _time(record),
        **_named("key", record.key),
        "headers": [{"name": name, **_named("value", value)} for name, value in record.headers],
        **_named("value", record.value),
    }


def _named(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value or b"").decode()}


def print_details(found: dict[str, Any]) -> None:
    """Prints a dead letter for people."""
    headers = found.pop("headers")
    value = found.popitem()
    rows = [*found.items(), *((header.pop("name"), *header.values()) for header in headers), value]
    width = max(len(name) for name, _ in rows)
    for name, one in rows:
        # Lines of stack traces and values stay lines; what could steer a terminal does not get there.
        lines = [cell(line) for line in str("" if one is None else one).split("\n")]
        click.echo(f"{cell(name).ljust(width)}  " + f"\n{'':{width}}  ".join(lines))


def _time(record: "StoredRecord") -> str:
    """When it was written, "" for a record without a time; a number where no calendar has the time."""
    stamp = record.timestamp
    if stamp is None or stamp == -1:
        return ""
    try:
        return (_EPOCH + timedelta(milliseconds=stamp)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{stamp} ms after 1970"


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
