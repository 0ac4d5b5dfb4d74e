"""A process with schedules that idles: the scheduler, the firings and the outbox's relay on SQLite, without Kafka.

Its records are seconds. The first start writes a row for each schedule; the second, which is measured, finds them.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench.report import Meter, Task
from handlers.stores.opening import Stores, open_stores
from streamproc import Context, Schedule
from streamproc.adapters.store import StoreOptions
from streamproc.model import OutRecord
from streamproc.relay import Relay
from streamproc.schedule.declare import TaskDue
from streamproc.schedule.scheduler import Clock, Scheduler
from streamproc.stream.options import StreamOptions
from streamproc.tuning import tune

FREE_MINUTES = 5
"""Nothing is due from now for so long."""
CRONS = (
    "{minute} * * * *",
    "{minute} */6 * * *",
    "{minute} {hour} * * *",
    "{minute} {hour} * * MON-FRI",
    "{minute} {hour} * * 5L",
    "{minute} {hour} * * 1#2",
    "{minute} {hour} 1,15 * *",
    "{minute} {hour} L * *",
    "{minute} {hour} LW */3 *",
    "{minute} {hour} 24 12 *",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
"""Their minutes are the same."""


@dataclass(frozen=True)
class IdleTask(Task):
    """Also: how many schedules."""

    schedules: int = 0


class StartMeter(Meter):
    """Tells also how long the start took, in milliseconds by part."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.start_ms: dict[str, object] = {}

    def _of_mode(self) -> dict[str, object]:
        return self.start_ms


async def do_nothing(task: TaskDue, ctx: Context[Any]) -> None:
    """What is never called here."""


def declared(count: int, now: datetime) -> list[Schedule]:
    """Schedules from hourly to yearly, of which none is due soon."""
    made = []
    for number in range(count):
        minute = (now.minute + FREE_MINUTES + 1 + number % (60 - 2 * FREE_MINUTES)) % 60
        cron = CRONS[number % len(CRONS)].format(minute=minute, hour=number // len(CRONS) % 24)
        made.append(Schedule(f"task-{number}", cron, do_nothing, tz=ZONES[number // 3 % len(ZONES)]))
    return made


class NoProducer:
    """For an outbox that stays empty."""

    async def send(self, records: Sequence[OutRecord]) -> Sequence[None]:
        """Raises AssertionError."""
        raise AssertionError(f"{len(records)} records were due")


async def started_ms(schedules: Sequence[Schedule], stores: Stores, stored: Any) -> tuple["asyncio.Task[None]", float]:
    """A scheduler that runs, and the milliseconds until it slept for the first time."""
    sleeps = asyncio.Event()

    async def wait(seconds: float) -> None:
        sleeps.set()
        await asyncio.sleep(seconds)

    began = time.perf_counter()
    scheduler = Scheduler(schedules, stores.firings, StreamOptions(), stored=stored, clock=Clock(wait=wait))
    running = asyncio.create_task(scheduler.run())
    await sleeps.wait()
    return running, (time.perf_counter() - began) * 1e3


async def idle(meter: StartMeter, task: IdleTask) -> None:
    """Starts twice, then idles until all seconds are counted."""
    began = time.perf_counter()
    schedules = declared(task.schedules, datetime.now(UTC))
    meter.start_ms["declare_ms"] = (time.perf_counter() - began) * 1e3
    async with open_stores(StoreOptions(url=f"sqlite:///{task.report.parent}/store.db")) as stores:
        relay = Relay(stores.outbox, NoProducer())
        relaying = asyncio.create_task(relay.run())
        first, meter.start_ms["first_start_ms"] = await started_ms(schedules, stores, relay.kick)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        running, meter.start_ms["later_start_ms"] = await started_ms(schedules, stores, relay.kick)
        tune()
        meter.add(task.warmup)
        await asyncio.sleep(task.count - task.warmup)
        meter.add(task.count - task.warmup)
        running.cancel()
        await relay.stop(relaying, 1.0)


def main(task: IdleTask) -> int:
    """Idles in the service's event loop."""
    import uvloop

    uvloop.run(idle(StartMeter(task), task))
    return 0


if __name__ == "__main__":
    sys.exit(main(IdleTask.from_arguments()))
