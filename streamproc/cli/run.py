"""`run`: the program itself."""

import os
import signal
from contextlib import ExitStack
from types import FrameType
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
    with ExitStack() as undo:
        for number in (signal.SIGTERM, signal.SIGINT):
            undo.callback(signal.signal, number, signal.signal(number, _end_at_once))
        settings = source.load(**more).settings
        app = target.load().with_options(settings.functions)

        from streamproc import service
        from streamproc.adapters import logs
        from streamproc.settings import secrets

        undo.pop_all()
    logs.configure(settings.log, secrets(settings))
    ctx.exit(service.run(app, settings, only))


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Ends a process that is still importing: nothing has begun. The first of a container would ignore SIGTERM."""
    os._exit(0)
