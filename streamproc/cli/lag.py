"""`lag`: how far the consumer group is behind."""

import click

from streamproc.cli.common import Source, ask_kafka, json_option, print_json, print_table, settings_options


@click.command()
@settings_options
@json_option
def lag(*, source: Source, as_json: bool) -> None:
    """Show how far the consumer group is behind, per partition.

    A partition without a commit counts from its beginning.

    \b
    Example:
      streamproc lag --set kafka.group_id=shop
    """
    from streamproc.adapters import kafka_tools

    settings = source.load().settings
    found = ask_kafka(kafka_tools.lag(settings.kafka, settings.stream.topics))
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        print_table(kafka_tools.PartitionLag._fields, found)
