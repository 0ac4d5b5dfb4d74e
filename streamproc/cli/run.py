"""`run`: the program itself."""

from typing import TYPE_CHECKING

import click

from streamproc.cli.common import Source, Target, app_options, settings_options

if TYPE_CHECKING:
    from streamproc.checks import Trigger


@click.command()
@app_options()
@click.option("--workers", type=int, help="Processes; the setting stream.workers.")
@click.option("--only", type=click.Choice(["stream", "http", "schedule"]), help="Only what this trigger needs.")
@settings_options
@click.pass_context
def run(ctx: click.Context, *, target: Target, workers: int | None, only: "Trigger | None", source: Source) -> None:
    """Run the functions of APP until a signal ends it.

    \b
    Exit codes: 0 ended as told, 1 failed, 2 usage or configuration,
    4 not done within stream.grace_s.

    \b
    Example:
      streamproc run handlers.app:app --workers 2 --set kafka.group_id=shop
    """
    more = {} if workers is None else {"stream.workers": workers}
    settings = source.load(**more).settings
    app = target.load().with_options(settings.functions)

    from streamproc import service
    from streamproc.adapters import logs
    from streamproc.settings import secrets

    logs.configure(settings.log, secrets(settings))
    ctx.exit(service.run(app, settings, only))
