"""Schedulers on one database, in virtual time: processes come and go, the database too, and the wall clock is set."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streamproc import Schedule, TaskDue
from streamproc.adapters.memory_firings import MemoryFirings
from streamproc.errors import StoreError
from streamproc.model import OutRecord
from streamproc.ports import Firings
from streamproc.rows import Firing
from streamproc.schedule.scheduler import Clock, Scheduler
from streamproc.stream.options import StreamOptions
from streamproc.virtualtime import run

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
OPTIONS = StreamOptions(topics=["events", "others"], format="cloudevents")


async def clean(task: TaskDue, ctx: Any) -> None: ...


def schedule(cron: str = "0 * * * *", name: str = "hourly", **options: Any) -> Schedule:
    return Schedule(name, cron, clean, **options)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


class Unsound:
    """Firings whose database may be gone (`down`), or loses the answer to what it did (`loses`, so many)."""

    def __init__(self, firings: Firings) -> None:
        self._firings = firings
        self.down = False
        self.loses = 0
        self.asked = 0
        self.bug: Exception | None = None

    def _may(self) -> None:
        self.asked += 1
        if self.bug is not None:
            raise self.bug
        if self.down:
            raise StoreError("gone")

    async def last(self) -> Mapping[str, Firing]:
        self._may()
        return await self._firings.last()

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        self._may()
        won = await self._firings.claim(firing, event)
        if self.loses:
            self.loses -= 1
            raise StoreError("the connection broke")
        return won

    async def move(self, firing: Firing) -> Firing | None:
        self._may()
        return await self._firings.move(firing)

    async def running(self, schedule: str, before: datetime) -> bool:
        self._may()
        return await self._firings.running(schedule, before)


class World:
    """Firings, a wall clock that begins at NOON, and the schedulers that run; use it inside of `virtually`."""

    def __init__(self, firings: Firings | None = None) -> None:
        self.memory = MemoryFirings()
        self.firings = Unsound(firings or self.memory)
        self.ahead_s = 0.0
        self.stored = 0
        self.waits: list[float] = []

    def now(self) -> float:
        """Seconds since the Unix epoch by the wall clock, which `ahead_s` sets."""
        return NOON.timestamp() + asyncio.get_running_loop().time() + self.ahead_s

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(seconds)

    def _note(self) -> None:
        self.stored += 1

    def start(self, *schedules: Schedule) -> "Process":
        """A process with these schedules."""
        clock = Clock(self.now, self._wait)
        return Process(Scheduler(schedules, self.firings, OPTIONS, stored=self._note, clock=clock))

    def rows(self, state: str = "") -> list[str]:
        """The firings in their order, as `hourly 11-26T12:00 due`; without `since`, or of one state only, as times."""
        found = sorted(self.memory.rows.values(), key=lambda one: (one.fire_at, one.schedule))
        if state:
            return [f"{one.fire_at:%m-%dT%H:%M}" for one in found if one.state == state]
        return [f"{one.schedule} {one.fire_at:%m-%dT%H:%M} {one.state}" for one in found if one.state != "since"]


class Process:
    """A scheduler that runs."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.task = asyncio.create_task(scheduler.run())

    async def stop(self) -> None:
        await self.scheduler.stop(self.task)


def virtually(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs a scenario in virtual time."""
    run(scenario)


async def hours(count: float) -> None:
    """Lets so many hours pass, and a little, so that what is due at their end is done."""
    await asyncio.sleep(count * 3_600 + 0.5)


def ids(events: Sequence[OutRecord]) -> list[str]:
    """The event ids of records in the format of CloudEvents."""
    return [(dict(event.headers)["ce_id"] or b"").decode() for event in events]
