"""streamproc as a contender: the whole service, with its group, commits, bounds, dead letters and metrics."""

import asyncio
from collections.abc import Callable, Sequence

import uvloop

from bench.events import SensorReading
from bench.report import Meter, Task
from streamproc import App, BatchContext, Context, Stream
from streamproc.service import serve
from streamproc.settings import load

WAIT_S = 0.005
CONCURRENCY = 1_000


def batch(meter: Meter) -> Stream:
    """Batches of up to 500."""

    async def count(readings: Sequence[SensorReading], ctx: BatchContext[None]) -> None:
        for reading in readings:
            if reading.temperature > 30:
                meter.hot += 1
        meter.add(len(readings))

    return Stream(SensorReading, count, batch_size=500)


def record(meter: Meter) -> Stream:
    """One event a call, in order per key."""

    async def count(reading: SensorReading, ctx: Context[None]) -> None:
        if reading.temperature > 30:
            meter.hot += 1
        meter.add(1)

    return Stream(SensorReading, count)


def waiting(meter: Meter) -> Stream:
    """One event a call that waits 5 ms, in order per key, 1,000 at a time."""

    async def wait(reading: SensorReading, ctx: Context[None]) -> None:
        meter.begin(reading.sensor_id, ctx.offset)
        if reading.temperature > 30:
            meter.hot += 1
        await asyncio.sleep(WAIT_S)
        meter.end(reading.sensor_id)
        meter.add(1)

    return Stream(SensorReading, wait, concurrency=CONCURRENCY)


def latency(meter: Meter) -> Stream:
    """One event a call; notes how long ago the broker stamped it."""

    async def note(reading: SensorReading, ctx: Context[None]) -> None:
        meter.note(ctx.record.timestamp)
        if reading.temperature > 30:
            meter.hot += 1
        meter.add(1)

    return Stream(SensorReading, note)


FUNCTIONS: dict[str, Callable[[Meter], Stream]] = {
    "batch": batch,
    "record": record,
    "waiting": waiting,
    "latency": latency,
}


async def main(task: Task) -> None:
    """Runs the service until all is read."""
    stop = asyncio.Event()
    meter = Meter(task, on_done=stop.set)
    flags = {
        "kafka.bootstrap_servers": [task.bootstrap],
        "kafka.group_id": task.group,
        "stream.topics": [task.topic],
        "ops.listen": "127.0.0.1:0",
    }
    await serve(App(functions=[FUNCTIONS[task.mode](meter)]), load(None, {}, flags=flags).settings, stop=stop)


if __name__ == "__main__":
    uvloop.run(main(Task.from_arguments()))
