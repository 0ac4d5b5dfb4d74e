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
    Exit codes: 0 ended as told; 1 failed by what may pass, such as a
    broker or database; 2 usage, configuration or a refused login;
    4 something outlived stream.grace_s; 128 + N ended by a second signal N.
    Kafka that is away at the start is waited for.

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
