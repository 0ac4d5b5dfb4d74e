"""Schedulers of several processes on one SQLite file, in virtual time: whatever stops, starts and fails in between,
each time fires once, or is left out as `catch_up` says."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import Schedule
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_firings import SqliteFirings
from streamproc.adapters.sqlite_outbox import SqliteOutbox
from streamproc.adapters.store import StoreOptions
from streamproc.model import OutRecord
from streamproc.rows import Firing
from streamproc.schedule import cron
from streamproc.schedule.scheduler import CATCH_UP_MAX, MISFIRE_S, RETRY_S, Clock, Scheduler
from streamproc.virtualtime import run
from tests.unit.schedule.rig import OPTIONS, Unsound, clean, ids

PROCESSES = 3
CRONS = ["*/20 * * * * *", "* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0,30 1-3 * * *"]
STARTS = [datetime(2026, month, day, 22, 59, 30, tzinfo=UTC) for month, day in ((3, 28), (10, 24), (7, 1))]

schedules = st.builds(
    lambda name, cron, **options: Schedule(name, cron, clean, tz="Europe/Berlin", **options),
    name=st.sampled_from(["a", "b", "c"]),
    cron=st.sampled_from(CRONS),
    catch_up=st.sampled_from(["none", "last", "all"]),
    overlap=st.sampled_from(["skip", "queue"]),
    timeout_s=st.just(1.0),
)
steps = st.one_of(
    st.tuples(st.just("start"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("stop"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("turn"), st.integers(1, 8)),
    st.tuples(st.just("outage"), st.integers(1, 5_000)),
    st.tuples(st.just("done"), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 100) | st.integers(100, 5_000)),
)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[SqliteDatabase]]:
    """Connections to one file, each with a writer of its own."""
    options = StoreOptions(url=f"sqlite:///{tmp_path_factory.mktemp('firings')}/a.db")
    with asyncio.Runner() as runner:
        opened = [open_sqlite(options, None) for _ in range(PROCESSES)]
        yield [runner.run(one.__aenter__()) for one in opened]
        for one in opened:
            runner.run(one.__aexit__(None, None, None))


class Noting(SqliteFirings):
    """Notes when each claim was made."""

    def __init__(self, database: SqliteDatabase, world: "World") -> None:
        super().__init__(database)
        self._world = world

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        self._world.claimed_at.setdefault((firing.schedule, firing.fire_at, firing.state), self._world.moment())
        return await super().claim(firing, event)


class World:
    """Processes with the same schedules, each with a connection of its own."""

    def __init__(self, declared: Sequence[Schedule], databases: Sequence[SqliteDatabase], start: datetime) -> None:
        self.declared = declared
        self.start_at = start
        self.claimed_at: dict[tuple[str, datetime, str], datetime] = {}
        self.healthy: list[tuple[datetime, datetime]] = []
        self._database = databases[0]
        self._firings = [Unsound(Noting(one, self)) for one in databases]
        self._running: dict[int, tuple[Scheduler, asyncio.Task[None]]] = {}

    def moment(self) -> datetime:
        return self.start_at + timedelta(seconds=asyncio.get_running_loop().time())

    async def clear(self) -> None:
        for table in ("firings", "outbox"):
            await self._database.run(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))  # type: ignore[misc]  # noqa: S608

    async def rows(self) -> list[tuple[str, datetime, str]]:
        """Schedule, time and state of each firing, in the order of the times."""
        select = "SELECT schedule, fire_at, state FROM firings ORDER BY fire_at, schedule"
        found = await self._database.run(lambda connection: connection.execute(select).fetchall())
        return [(name, datetime.fromtimestamp(at, UTC), state) for name, at, state in found]

    async def events(self) -> list[str]:
        """The event ids of what waits in the outbox."""
        async with SqliteOutbox(self._database).relay() as waiting:
            assert waiting is not None
            return ids([record for _, record in await waiting.take(100_000)])

    async def step(self, what: str, number: Any) -> None:
        """Does one thing to the world; what takes no time leaves the processes in the middle of what they do."""
        match what:
            case "start":
                self.start(number)
            case "stop" if number in self._running:
                scheduler, task = self._running.pop(number)
                await scheduler.stop(task)
            case "down":
                for firings in self._firings:
                    firings.down = number
            case "lose":
                self._firings[number].loses = 1
            case "outage":  # of all, which lose the answer to the first that they do then
                await self.step("down", True)
                await asyncio.sleep(number)
                for firings in self._firings:
                    firings.loses = 1
                await self.step("down", False)
            case "turn":
                for _ in range(number):
                    await asyncio.sleep(0)
            case "done":
                move = "UPDATE firings SET state = 'done' WHERE state = 'due'"
                await self._database.run(lambda connection: connection.execute(move))
            case "pass":
                began = self.moment()
                await asyncio.sleep(number)
                if self._running and not self._firings[0].down:
                    self.healthy.append((began, self.moment()))

    def start(self, number: int) -> None:
        if number not in self._running:
            clock = Clock(lambda: self.moment().timestamp())
            scheduler = Scheduler(self.declared, self._firings[number], OPTIONS, clock=clock)
            self._running[number] = scheduler, asyncio.create_task(scheduler.run())

    async def settle(self) -> None:
        """Lets a process work without trouble."""
        await self.step("down", False)
        self.start(0)
        await asyncio.sleep(3 * RETRY_S)
        for number in list(self._running):
            await self.step("stop", number)


def check(schedule: Schedule, since: datetime, rows: dict[datetime, str], world: World) -> None:
    """What holds for one schedule at the end: its `rows` are the states of its firings by their times."""
    times = list(cron.between(schedule.cron, schedule.tz, since, before=world.moment() - timedelta(seconds=RETRY_S)))
    at_once = world.moment() + timedelta(milliseconds=1)
    assert rows.keys() <= set(cron.between(schedule.cron, schedule.tz, since, before=at_once))

    def claimed_at(at: datetime) -> datetime:
        return world.claimed_at[schedule.name, at, "due" if rows[at] == "done" else rows[at]]

    behind = {at: claimed_at(at) - at for at in rows}
    late = timedelta(seconds=MISFIRE_S)
    if schedule.catch_up == "all" and len(times) <= CATCH_UP_MAX:
        assert rows.keys() >= set(times)
    if schedule.catch_up == "none":
        assert all((state == "missed") == (behind[at] > late) for at, state in rows.items())
    else:
        assert "missed" not in rows.values()
    assert not times or times[-1] in rows
    if schedule.overlap == "queue":
        assert "skipped" not in rows.values()
    for earlier, later in itertools.pairwise(times):
        if earlier not in rows:  # left out: it was late when the next one that was not left out was claimed
            following = next(at for at in times if at >= later and at in rows)
            assert following + behind[following] - earlier > late
    for began, ended in world.healthy:
        for at in times:
            if began + timedelta(seconds=3 * RETRY_S) < at < ended - timedelta(seconds=3 * RETRY_S):
                assert behind[at] <= timedelta(seconds=2 * RETRY_S)


@given(
    declared=st.lists(schedules, min_size=1, max_size=3, unique_by=lambda one: one.name),
    start=st.sampled_from(STARTS),
    story=st.lists(steps, min_size=8, max_size=25),
)
def test_each_time_fires_once_or_is_left_out_as_the_rule_says(
    databases: Sequence[SqliteDatabase], declared: list[Schedule], start: datetime, story: list[tuple[str, Any]]
) -> None:
    async def scenario() -> None:
        world = World(declared, databases, start)
        await world.clear()
        world.start(0)
        for step in story:
            await world.step(*step)
        await world.settle()
        rows = await world.rows()
        due = [f"{name}/{at.isoformat()}" for name, at, state in rows if state in ("due", "done")]
        assert sorted(await world.events()) == sorted(due)
        for schedule in declared:
            own = {at: state for name, at, state in rows if name == schedule.name and state != "since"}
            since = min(at for name, at, state in rows if name == schedule.name and state == "since")
            check(schedule, since, own, world)

    run(scenario())
