"""streamproc as a contender: the whole service, with its group, commits, bounds, dead letters and metrics."""

import asyncio
import mmap
import os
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.events import SensorReading
from bench.report import Meter, Task
from streamproc import App, BatchContext, Context, Stream
from streamproc.service import run
from streamproc.settings import load

WAIT_S = 0.005
CONCURRENCY = 1_000


@dataclass(frozen=True)
class OurTask(Task):
    """Also: how many worker processes, the largest batch, how many event types (each has a function), the port of the
    operations server (0: any)."""

    workers: int = 1
    batch: int = 500
    types: int = 1
    ops: int = 0


class SharedMeter(Meter):
    """Counts the records of all worker processes, `STEP` at a time: each has a cell of the memory they share.

    It takes the run for done when no more than what may be under way to the cells is missing.
    """

    STEP = 500
    CELLS = 64

    def __init__(self, task: OurTask) -> None:
        super().__init__(replace(task, count=task.count - task.workers * self.STEP))
        self._cells = memoryview(mmap.mmap(-1, 8 * self.CELLS)).cast("q")
        self._mine = 0

    def add(self, records: int) -> None:
        """So many more."""
        self._mine += records
        if self._mine >= self.STEP:
            self._cells[os.getpid() % self.CELLS] += self._mine
            self._mine = 0
            super().add(sum(self._cells) - self.seen)


def batch(meter: Meter, event: type[SensorReading], size: int) -> Stream:
    """Batches."""

    async def count(readings: Sequence[SensorReading], ctx: BatchContext[None]) -> None:
        for reading in readings:
            if reading.temperature > 30:
                meter.hot += 1
        meter.add(len(readings))

    return Stream(event, count, name=f"count-{event.__struct_config__.tag}", batch_size=size)


def record(meter: Meter, event: type[SensorReading], _size: int) -> Stream:
    """One event a call, in order per key."""

    async def count(reading: SensorReading, ctx: Context[None]) -> None:
        if reading.temperature > 30:
            meter.hot += 1
        meter.add(1)

    return Stream(event, count, name=f"count-{event.__struct_config__.tag}")


def waiting(meter: Meter, event: type[SensorReading], _size: int) -> Stream:
    """One event a call that waits 5 ms, in order per key, 1,000 at a time."""

    async def wait(reading: SensorReading, ctx: Context[None]) -> None:
        meter.begin(reading.sensor_id, ctx.offset)
        if reading.temperature > 30:
            meter.hot += 1
        await asyncio.sleep(WAIT_S)
        meter.end(reading.sensor_id)
        meter.add(1)

    return Stream(event, wait, concurrency=CONCURRENCY)


def latency(meter: Meter, event: type[SensorReading], _size: int) -> Stream:
    """One event a call; notes how long ago the broker stamped it."""

    async def note(reading: SensorReading, ctx: Context[None]) -> None:
        meter.note(ctx.record.timestamp)
        if reading.temperature > 30:
            meter.hot += 1
        meter.add(1)

    return Stream(event, note)


FUNCTIONS: dict[str, Callable[[Meter, type[SensorReading], int], Stream]] = {
    "batch": batch,
    "record": record,
    "waiting": waiting,
    "latency": latency,
}


def event_types(count: int) -> list[type[SensorReading]]:
    """So many types of events, of the same form: `sensor.reading`, `sensor.reading.1` and so on."""
    more = [
        types.new_class(f"SensorReading{number}", (SensorReading,), {"tag": f"sensor.reading.{number}"})
        for number in range(1, count)
    ]
    return [SensorReading, *more]


def app(meter: Meter, task: OurTask) -> App:
    """The functions of a mode."""
    if task.mode == "sink":
        return _sink(meter, task)
    make = FUNCTIONS[task.mode]
    return App(functions=[make(meter, event, task.batch) for event in event_types(task.types)])


def _sink(meter: Meter, task: OurTask) -> App:
    """Stores readings, and the alerts they raise, as the application does."""
    from handlers.sensor_reading import SensorReading as Measured
    from handlers.sensor_reading import store_readings
    from handlers.services import Services, open_services

    async def store(readings: Sequence[Measured], ctx: BatchContext[Services]) -> None:
        if await store_readings(readings, ctx) is not None:
            raise ValueError("an event id came twice")
        meter.add(len(readings))

    return App(functions=[Stream(Measured, store, batch_size=task.batch)], services=open_services)


def main(task: OurTask) -> int:
    """Runs the service until it is ended."""
    meter = SharedMeter(task) if task.workers > 1 else Meter(task)
    folder = task.report.parent
    flags = {
        "kafka.bootstrap_servers": [task.bootstrap],
        "kafka.group_id": task.group,
        "stream.topics": [task.topic],
        "stream.workers": task.workers,
        "ops.listen": f"127.0.0.1:{task.ops}",
        "store.url": f"sqlite:///{folder}/store.db",
        "mail.directory": str(folder / "mail"),
        "objects.url": f"file:{folder}/objects",
    }
    return run(app(meter, task), load(None, {}, flags=flags).settings)


if __name__ == "__main__":
    sys.exit(main(OurTask.from_arguments()))
