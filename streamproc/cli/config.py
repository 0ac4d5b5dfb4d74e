"""`config`: the settings in effect."""

import click

from streamproc.cli.common import Source, json_option, print_json, print_table, settings_options


@click.command()
@settings_options
@json_option
def config(*, source: Source, as_json: bool) -> None:
    """Show every setting, its value and where that came from.

    Secrets are shown as ***.

    \b
    Example:
      STREAMPROC_LOG__LEVEL=debug streamproc config
    """
    values = source.load().values()
    if as_json:
        print_json({value.name: {"value": value.value, "origin": value.origin} for value in values})
    else:
        print_table(["setting", "value", "origin"], values)
