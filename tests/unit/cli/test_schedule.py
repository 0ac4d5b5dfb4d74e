"""`schedule`: what is listed, and that what is triggered is in the outbox."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.unit.cli.conftest import Streamproc

APP = """
import contextlib
from types import SimpleNamespace
from streamproc import App, Schedule, TaskDue
from streamproc.adapters.sqlite import open_sqlite
from streamproc.adapters.sqlite_firings import SqliteFirings
from streamproc.adapters.sqlite_outbox import SqliteOutbox

async def clean(task: TaskDue, ctx): ...

@contextlib.asynccontextmanager
async def services(settings):
    async with open_sqlite(settings.store, None) as database:
        yield SimpleNamespace(outbox=SqliteOutbox(database), firings=SqliteFirings(database))

app = App(
    functions=[
        Schedule("daily-cleanup", "0 3 * * *", clean, tz="Europe/Berlin", timeout_s=60),
        Schedule("hourly.v2", "0 * * * *", clean, topic="tasks"),
    ],
    services=services,
    outbox=lambda services: services.outbox,
    firings=lambda services: services.firings,
)
"""
STORE = ("--set", "store.url=sqlite:///a.db", "--set", "stream.format=cloudevents")


@pytest.fixture
def clock_app(folder: Path) -> None:
    (folder / "clock.py").write_text(APP)


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "a.db")) as connection, connection:
        return connection.execute(sql).fetchall()


pytestmark = pytest.mark.usefixtures("clock_app")


def test_schedules_are_listed_with_their_next_times(streamproc: Streamproc) -> None:
    result = streamproc("schedule", "ls", "clock:app", *STORE)
    assert result.exit_code == 0
    header, daily, hourly = result.stdout.splitlines()
    assert header.split() == ["NAME", "CRON", "TZ", "NEXT", "LAST", "STATE"]
    assert daily.startswith("daily-cleanup  0 3 * * *  Europe/Berlin  20")
    assert "T03:00:00+0" in daily
    assert hourly.split()[:7] == ["hourly.v2", *"0****", "UTC"]


def test_the_latest_firing_is_told_in_the_time_zone_of_its_schedule(streamproc: Streamproc, folder: Path) -> None:
    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(streamproc("schedule", "ls", "clock:app", "--json", *STORE).stdout)
        return found

    assert [(one["last"], one["state"]) for one in listed()] == [(None, None)] * 2
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
    firings = f"('daily-cleanup', {noon}, 'running', {noon}, NULL), ('hourly.v2', {noon}, 'since', {noon}, NULL)"
    rows(folder, f"INSERT INTO firings VALUES {firings}")  # noqa: S608
    daily, hourly = listed()
    assert (daily["last"], daily["state"]) == ("2026-11-26T13:00:00+01:00", "running")
    assert (hourly["last"], hourly["state"], hourly["cron"], hourly["tz"]) == (None, None, "0 * * * *", "UTC")
    following = datetime.fromisoformat(hourly["next"])
    assert timedelta(0) < following - datetime.now(UTC) <= timedelta(hours=1)
    assert (following.minute, following.second) == (0, 0)


def trigger(streamproc: Streamproc, name: str, *more: str) -> Result:
    """Triggers a schedule, in another second than the last time."""
    while True:
        result = streamproc("schedule", "trigger", "clock:app", name, *STORE, *more)
        if "already" not in result.stderr:
            return result


def test_what_is_triggered_waits_in_the_outbox(streamproc: Streamproc, folder: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    result = trigger(streamproc, "daily-cleanup")
    assert result.exit_code == 0
    [(schedule, fire_at, state, lease_until)] = rows(
        folder, "SELECT schedule, fire_at, state, lease_until FROM firings"
    )
    moment = datetime.fromtimestamp(fire_at, UTC)
    assert (schedule, state, lease_until - fire_at) == ("daily-cleanup", "due", 3_600)
    assert before <= moment <= datetime.now(UTC)
    assert result.stdout == (
        f"daily-cleanup is due at {moment.isoformat()}: the event is in the outbox, a running service publishes it\n"
    )
    [(topic, key, value)] = rows(folder, "SELECT topic, key, value FROM outbox")
    assert (topic, key) == ("events", b"daily-cleanup")
    assert json.loads(value)["type"] == "task.due.daily-cleanup"
    assert datetime.fromisoformat(json.loads(value)["fireAt"]) == moment


def test_a_second_has_one_firing(streamproc: Streamproc, folder: Path) -> None:
    for _ in range(3):
        trigger(streamproc, "hourly.v2")
    counts = (
        "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM firings), count(DISTINCT fire_at) FROM firings"
    )
    assert rows(folder, counts) == [(3, 3, 3)]
    ahead = ", ".join(f"('daily-cleanup', {int(datetime.now(UTC).timestamp()) + n}, 'due', 0, NULL)" for n in range(60))
    rows(folder, f"INSERT INTO firings VALUES {ahead}")  # noqa: S608
    result = streamproc("schedule", "trigger", "clock:app", "daily-cleanup", *STORE)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "already: wait a second" in result.stderr


def test_settings_change_what_is_listed_and_triggered(streamproc: Streamproc, folder: Path) -> None:
    (folder / "streamproc.toml").write_text('[functions."hourly.v2"]\ncron = "5 * * * *"\ntopic = "others"\n')
    shown = json.loads(streamproc("schedule", "ls", "clock:app", "--json", *STORE).stdout)
    assert shown[1]["cron"] == "5 * * * *"
    trigger(streamproc, "hourly.v2")
    assert rows(folder, "SELECT topic FROM outbox") == [("others",)]


def test_a_name_that_is_none_is_told_with_what_was_meant(streamproc: Streamproc) -> None:
    result = streamproc("schedule", "trigger", "clock:app", "daily-clean-up", *STORE)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: no schedule is named 'daily-clean-up'; did you mean 'daily-cleanup'?\n"


def test_an_app_without_schedules_opens_nothing(streamproc: Streamproc, folder: Path) -> None:
    assert streamproc("schedule", "ls", "shop:app", "--json").stdout == "[]\n"
    result = streamproc("schedule", "trigger", "shop:app", "daily")
    assert result.stderr == "Error: no schedule is named 'daily'; there are none\n"
    assert not (folder / "data").exists()


def test_a_database_that_does_not_answer_is_one_sentence(streamproc: Streamproc, folder: Path) -> None:
    (folder / "a.db").mkdir()
    result = streamproc("schedule", "ls", "clock:app", *STORE)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: store.url: a.db cannot be opened")


def test_functions_of_schedules_are_among_what_is_checked(streamproc: Streamproc) -> None:
    shown = json.loads(streamproc("check", "clock:app", "--json", "--set", "stream.topics=events,tasks").stdout)
    assert [(one["function"], one["event_type"], one["timeout_s"]) for one in shown] == [
        ("daily-cleanup", "task.due.daily-cleanup", 60),
        ("hourly.v2", "task.due.hourly.v2", 3_600),
    ]
