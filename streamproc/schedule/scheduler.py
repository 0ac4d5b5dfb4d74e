"""Puts a record on the stream when a schedule is due: one for each time, whatever the number of processes.

    the next times -> sleep -> claim the firing and its record, in one transaction -> the outbox's relay

Every process does this. All compute the same times, and the row (schedule, time) is unique: whoever writes it first
writes the record, too. A process claims the times of a schedule in their order, so that the latest row says which
times are behind: a start, and each new beginning after a failure, goes on from there. What is late by then by more
than MISFIRE_S was missed, and `catch_up` says what becomes of it.
"""

import asyncio
import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from streamproc.errors import StoreError
from streamproc.model import OutRecord, ScheduleSnapshot
from streamproc.ports import Firings
from streamproc.rows import Firing
from streamproc.schedule import cron
from streamproc.schedule.declare import Schedule
from streamproc.schedule.task import due
from streamproc.stream.options import StreamOptions
from streamproc.stream.wrap import record_of

log = logging.getLogger(__name__)

MISFIRE_S = 60.0
"""A time that could not be claimed for so long was missed."""
LOOK_S = 30.0
"""The longest sleep: a wall clock that was set, or stood while the machine was suspended, is seen by then."""
RETRY_S = 1.0
"""How soon it begins again after a failure."""
CATCH_UP_MAX = 1_000
"""Missed times of one schedule that are put on the stream, with `catch_up="all"`."""


def task_record(schedule: Schedule, fire_at: datetime, options: StreamOptions) -> OutRecord:
    """The record that runs the function of a schedule; its key makes the firings of one schedule run in turn."""
    event = schedule.event(schedule=schedule.name, fire_at=fire_at)
    event_id = f"{schedule.name}/{fire_at.isoformat()}"
    return record_of(event, options, key=schedule.name, topic=schedule.topic or "", event_id=event_id)


class Clock(NamedTuple):
    """The wall clock, in seconds since the Unix epoch, and what sleeps so many seconds."""

    now: Callable[[], float] = time.time
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep


class Scheduler:
    """The scheduler of one process. `stored` is told of each record that was written to the outbox."""

    def __init__(
        self,
        schedules: Sequence[Schedule],
        firings: Firings,
        options: StreamOptions,
        *,
        stored: Callable[[], None] = lambda: None,
        clock: Clock = Clock(),  # noqa: B008  (it cannot be changed)
    ) -> None:
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._firings = firings
        self._options = options
        self._stored = stored
        self._clock = clock
        self._next: list[tuple[datetime, str]] = []
        self._claimed: Counter[tuple[str, str]] = Counter()
        self._trouble = ""

    async def run(self) -> None:
        """Claims until `stop`."""
        while True:
            try:
                await self._begin()
                while True:
                    await self._claim_due()
                    await self._clock.wait(self._idle_s())
            except StoreError as error:
                if not self._trouble:
                    log.warning("schedules wait for the database: %s", error)
                self._trouble = f"schedules wait for the database: {error}"
            except Exception as error:
                trouble = f"the scheduler failed and starts again: {type(error).__name__}: {error}"
                if trouble != self._trouble:
                    log.exception("the scheduler failed and starts again")
                self._trouble = trouble
            await self._clock.wait(RETRY_S)

    async def stop(self, running: "asyncio.Task[None]") -> None:
        """Ends it; what it is about to write is written whole or not at all."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def snapshot(self) -> ScheduleSnapshot:
        """Frozen numbers."""
        return ScheduleSnapshot(dict(self._claimed), {name: at.timestamp() for at, name in self._next})

    def ready(self) -> str:
        """Returns why no schedule is claimed; empty when they are."""
        return self._trouble

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _idle_s(self) -> float:
        ahead_s = (self._next[0][0] - self._now()).total_seconds() if self._next else LOOK_S
        return min(max(0.0, ahead_s), LOOK_S)

    async def _begin(self) -> None:
        now = self._now()
        last = await self._firings.last()
        self._next = []
        for name, schedule in self._schedules.items():
            if name not in last:
                await self._write(Firing(name, now, "since", now))
            behind = last[name].fire_at if name in last else now
            self._next.append((cron.next_after(schedule.cron, schedule.tz, behind), name))
        heapq.heapify(self._next)

    async def _claim_due(self) -> None:
        while self._next and self._next[0][0] <= self._now():
            at, name = self._next[0]
            following = await self._claim_from(self._schedules[name], at)
            heapq.heapreplace(self._next, (following, name))
        if self._trouble:
            log.info("schedules go on")
        self._trouble = ""

    async def _claim_from(self, schedule: Schedule, at: datetime) -> datetime:
        """Claims a time of a schedule that has come, or all from it on that were missed; returns the next one."""
        in_time = self._now() - timedelta(seconds=MISFIRE_S)
        if at < in_time:
            at = await self._catch_up(schedule, at, in_time)
        else:
            await self._fire(schedule, at)
        return cron.next_after(schedule.cron, schedule.tz, at)

    async def _catch_up(self, schedule: Schedule, first: datetime, before: datetime) -> datetime:
        """Does what the rule says about the times that were missed, from `first` on; returns the last of them."""
        if schedule.catch_up == "all":
            return await self._catch_all_up(schedule, first, before)
        last = cron.latest(schedule.cron, schedule.tz, first, before=before)
        if schedule.catch_up == "none":
            await self._write(Firing(schedule.name, last, "missed", last))
        else:
            await self._fire(schedule, last)
        return last

    async def _catch_all_up(self, schedule: Schedule, first: datetime, before: datetime) -> datetime:
        missed, count = deque([first], CATCH_UP_MAX), 1
        for at in cron.between(schedule.cron, schedule.tz, first, before=before):
            missed.append(at)
            count += 1
            if count % CATCH_UP_MAX == 0:
                await asyncio.sleep(0)  # a year of minutes takes seconds
        if count > CATCH_UP_MAX:
            log.warning("%s: the first %d of %d missed times are left out", schedule.name, count - len(missed), count)
        for at in missed:
            await self._put(schedule, at)
        return missed[-1]

    async def _fire(self, schedule: Schedule, at: datetime) -> None:
        if schedule.overlap == "skip" and await self._firings.running(schedule.name, at):
            await self._write(Firing(schedule.name, at, "skipped", at))
        else:
            await self._put(schedule, at)

    async def _put(self, schedule: Schedule, at: datetime) -> None:
        await self._write(due(schedule, at, self._now()), task_record(schedule, at, self._options))

    async def _write(self, firing: Firing, event: OutRecord | None = None) -> None:
        if not await self._firings.claim(firing, event):
            return
        if firing.state != "since":
            self._claimed[firing.schedule, firing.state] += 1
        if event is not None:
            self._stored()
        elif firing.state == "skipped":
            log.warning("%s: skipped at %s, an earlier firing is not done", firing.schedule, firing.fire_at)
        elif firing.state == "missed":
            log.warning("%s: missed at %s", firing.schedule, firing.fire_at)
