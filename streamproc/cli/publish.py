"""`publish`: events into a topic."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from streamproc.cli.common import Source, ask_kafka, settings_options
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc.model import OutRecord
    from streamproc.settings import Settings
    from streamproc.stream.options import StreamOptions


@click.command()
@click.argument("topic", required=False)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--raw", is_flag=True, help="Send each line as it is.")
@click.option("--key", metavar="FIELD", help="The field of the event that becomes the record's key.")
@settings_options
def publish(topic: str | None, file: BinaryIO, *, raw: bool, key: str | None, source: Source) -> None:
    """Send events, one JSON object a line, to TOPIC.

    They are read from FILE, or standard input when it is - or not given. Each is wrapped as the settings say
    that TOPIC holds events. TOPIC is the first input topic when not given.

    \b
    Example:
      echo '{"type": "user.created", "userId": "u-1"}' | streamproc publish events --key userId
    """
    if raw and key:
        raise click.UsageError("--key needs events, and --raw does not look into lines")
    settings = source.load().settings
    target = topic or settings.stream.topics[0]
    records = lines(file, target) if raw else events(file, topic=target, key=key, options=settings.stream)
    ask_kafka(_send(settings, target, records=records))


async def _send(settings: "Settings", topic: str, *, records: "Iterator[OutRecord]") -> None:
    from streamproc.adapters import kafka_tools

    sent = 0
    try:
        async for count in kafka_tools.publish(settings.kafka, topic, records=records):
            sent += count
    finally:
        click.echo(f"{sent} records sent to {topic}", err=True)


def lines(file: BinaryIO, topic: str) -> "Iterator[OutRecord]":
    """Records of the lines of a file, as they are; empty lines are none."""
    from streamproc.model import OutRecord

    for line in file:
        if value := line.rstrip(b"\r\n"):
            yield OutRecord(topic, value)


def events(file: BinaryIO, *, topic: str, key: str | None, options: "StreamOptions") -> "Iterator[OutRecord]":
    """Records of the events in the lines of a file, in the format of their topic. Raises ConfigError."""
    import uuid

    from streamproc.model import OutRecord
    from streamproc.stream.wrap import wrap

    form = options.format_of(topic)
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        event = _parse(line, number)
        if key is not None and key not in event:
            raise ConfigError(f"line {number}: the event has no field {key!r}")
        name = None if key is None else str(event[key])
        event_id, event_type = str(uuid.uuid4()), event["type"]
        value, headers = wrap(line.strip(), form, event_id=event_id, event_type=event_type, key=name or "")
        yield OutRecord(topic, value, None if name is None else name.encode(), headers)


def _parse(line: bytes, number: int) -> dict[str, Any]:
    import orjson

    try:
        event = orjson.loads(line)
    except ValueError as error:
        raise ConfigError(f"line {number}: not JSON ({error})") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ConfigError(f'line {number}: not an event, which is an object with a "type"')
    return event
