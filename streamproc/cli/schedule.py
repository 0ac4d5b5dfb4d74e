"""`schedule`: what runs at which times, and running it now."""

from typing import TYPE_CHECKING, Any

import click

from streamproc.cli.common import Source, Target, app_options, json_option, print_json, print_table, settings_options
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from streamproc.app import App
    from streamproc.rows import Firing
    from streamproc.schedule.declare import Schedule
    from streamproc.settings import Settings

_COLUMNS = ("name", "cron", "tz", "next", "last", "state")


@click.group()
def schedule() -> None:
    """Look at schedules, and run one now.

    \b
    Example:
      streamproc schedule ls handlers.app:app
    """


@schedule.command("ls")
@app_options()
@settings_options
@json_option
def list_schedules(*, target: Target, source: Source, as_json: bool) -> None:
    """List the schedules of APP: when each is due next, its latest firing and what became of it.

    \b
    Example:
      streamproc schedule ls handlers.app:app
    """
    import asyncio
    from datetime import UTC, datetime

    app, settings = _load(target, source)
    last = asyncio.run(_last(app, settings)) if app.schedules else {}
    rows = [row(one, last.get(one.name), now=datetime.now(UTC)) for one in app.schedules]
    if as_json:
        print_json(rows)
    else:
        print_table(_COLUMNS, [list(one.values()) for one in rows])


@schedule.command("trigger")
@app_options()
@click.argument("name")
@settings_options
def trigger(name: str, *, target: Target, source: Source) -> None:
    """Run the schedule NAME of APP once, now, whatever its times.

    The event is written to the outbox of the app; a running service publishes and handles it.

    \b
    Example:
      streamproc schedule trigger handlers.app:app daily-cleanup
    """
    import asyncio
    from datetime import UTC, datetime

    app, settings = _load(target, source)
    found = app.schedule(name)
    now = datetime.now(UTC).replace(microsecond=0)
    if not asyncio.run(_trigger(app, settings, found, now)):
        raise ConfigError(f"{name} has a firing at {now.isoformat()} already: wait a second")
    click.echo(f"{name} is due at {now.isoformat()}: the event is in the outbox, a running service publishes it")


def row(schedule: "Schedule", last: "Firing | None", *, now: "datetime") -> dict[str, Any]:
    """A schedule as people see it, with times in its own time zone."""
    from streamproc.schedule import cron

    is_fired = last is not None and last.state != "since"
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "next": _local(cron.next_after(schedule.cron, schedule.tz, now), schedule.tz),
        "last": _local(last.fire_at, schedule.tz) if last and is_fired else None,
        "state": last.state if last and is_fired else None,
    }


def _local(moment: "datetime", tz: str) -> str:
    from streamproc.schedule.cron import zone

    return moment.astimezone(zone(tz)).isoformat(timespec="seconds")


def _load(target: Target, source: Source) -> "tuple[App, Settings]":
    settings = source.load().settings
    return target.load().with_options(settings.functions), settings


async def _last(app: "App", settings: "Settings") -> "Mapping[str, Firing]":
    assert app.firings is not None
    async with app.services(settings) as services:
        return await app.firings(services).last()


async def _trigger(app: "App", settings: "Settings", schedule: "Schedule", now: "datetime") -> bool:
    from streamproc.schedule.scheduler import task_record
    from streamproc.schedule.task import due

    assert app.firings is not None
    async with app.services(settings) as services:
        event = task_record(schedule, now, settings.stream)
        return await app.firings(services).claim(due(schedule, now, now), event)
