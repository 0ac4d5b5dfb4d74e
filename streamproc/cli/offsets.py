"""`offsets` and `skip`: where a stopped group goes on."""

from typing import TYPE_CHECKING, Any

import click

from streamproc.cli.common import Source, ask_kafka, json_option, print_json, print_table, settings_options

if TYPE_CHECKING:
    from streamproc.adapters.kafka_offsets import Where


class _Where(click.ParamType[Any]):
    name = "OFFSET"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if value in ("earliest", "latest"):
            return value
        if str(value).isdecimal():
            return int(str(value))
        self.fail(f"{value!r} is neither earliest nor latest nor a number", param, ctx)


def _some_text(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say why, for whoever finds the dead letter")
    return value


@click.group()
def offsets() -> None:
    """Say where a stopped group goes on.

    \b
    Example:
      streamproc offsets set events 3 earliest
    """


@offsets.command("set")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("to", type=_Where(), metavar="earliest|latest|OFFSET")
@settings_options
@json_option
def set_offset(topic: str, partition: int, to: "Where", *, source: Source, as_json: bool) -> None:
    """Make the group go on in PARTITION of TOPIC at an offset that its log holds.

    The group must be stopped. Prints where it stood before: with that, it can be set back.

    \b
    Example:
      streamproc offsets set events 3 120000
    """
    from streamproc.adapters import kafka_offsets
    from streamproc.model import TopicPartition

    settings = source.load().settings
    moved = ask_kafka(kafka_offsets.set_offset(settings.kafka, TopicPartition(topic, partition), to))
    if as_json:
        print_json(moved._asdict())
    else:
        print_table(moved._fields, [moved])


@click.command()
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--reason", required=True, callback=_some_text, help="Why it is left out; kept in the dead letter.")
@settings_options
@json_option
def skip(topic: str, partition: int, offset: int, *, reason: str, source: Source, as_json: bool) -> None:
    """Leave out what cannot be read at an offset.

    A dead letter with its coordinates and the reason is written first.

    What is left out is the whole record batch that holds the offset; one that can be read is refused. The group must be
    stopped, and must stand there.

    \b
    Example:
      streamproc skip events 3 118204 --reason "checksum is wrong, see incident 17"
    """
    from streamproc.adapters import kafka_offsets
    from streamproc.model import TopicPartition

    settings = source.load().settings
    letters = settings.stream.dead_letter_topic.format(topic=topic)
    where = TopicPartition(topic, partition)
    skipped = ask_kafka(
        kafka_offsets.skip(settings.kafka, where, offset=offset, reason=reason, dead_letter_topic=letters)
    )
    if as_json:
        print_json(skipped._asdict())
    else:
        print_table(skipped._fields, [skipped])
