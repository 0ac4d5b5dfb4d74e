"""One contender in a process of its own: reads a topic to its end, and prints what that cost as a JSON object.

Each does the same work but `bare`, which drops what it reads: open the envelope, decode the typed event, call the
function for its type, count readings above 30. What comes before the first `WARMUP` records is not counted.
"""

import argparse
import asyncio
import json
import resource
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import aiokafka
import uvloop

from bench.events import SensorReading
from streamproc import App, BatchContext, Context, Stream
from streamproc.service import serve
from streamproc.settings import load

WARMUP = 20_000


class Meter:
    """Counts records; knows when the warm-up ended and when all are there."""

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self.hot = 0
        self._count = count
        self._seen = 0
        self._began: tuple[int, float, float] | None = None
        self._rss_kib: list[int] = []

    def add(self, records: int) -> None:
        """So many more."""
        self._seen += records
        if self._began is None and self._seen >= WARMUP:
            self._began = (self._seen, _cpu_s(), time.perf_counter())
        if self._seen >= self._count:
            self.done.set()

    def look(self) -> None:
        """Takes down the memory in use."""
        with open("/proc/self/statm") as statm:
            self._rss_kib.append(int(statm.read().split()[1]) * 4)

    def result(self, cpu_s: float, ended: float) -> dict[str, Any]:
        """CPU microseconds per record, records per second, memory in MB."""
        assert self._began is not None
        seen, cpu_before, began = self._began
        counted = self._seen - seen
        half = len(self._rss_kib) // 2
        return {
            "cpu_us": (cpu_s - cpu_before) / counted * 1e6,
            "records_per_s": counted / (ended - began),
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "rss_first_half_mb": max(self._rss_kib[:half], default=0) / 1024,
            "rss_second_half_mb": max(self._rss_kib[half:], default=0) / 1024,
            "hot": self.hot,
        }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def bare(bootstrap: str, topic: str, meter: Meter) -> None:
    """aiokafka's `getmany`, and nothing else; commits nothing."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    while not meter.done.is_set():
        for records in (await consumer.getmany(timeout_ms=500)).values():
            meter.add(len(records))
    await consumer.stop()


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
        await asyncio.sleep(0.005)
        meter.add(1)

    return Stream(SensorReading, wait, concurrency=1_000)


FUNCTIONS: dict[str, Callable[[Meter], Stream]] = {"batch": batch, "record": record, "waiting": waiting}


async def ours(bootstrap: str, topic: str, meter: Meter, function: Stream) -> None:
    """The whole service: group, commits, bounds, dead letters, metrics."""
    flags = {
        "kafka.bootstrap_servers": [bootstrap],
        "kafka.group_id": f"bench-{uuid.uuid4().hex}",
        "stream.topics": [topic],
        "ops.listen": "127.0.0.1:0",
    }
    await serve(App(functions=[function]), load(None, {}, flags=flags).settings, stop=meter.done)


async def main(name: str, bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    """Runs a contender and returns what it cost."""
    meter = Meter(count)
    ended: list[float] = []

    async def watch() -> None:
        while not meter.done.is_set():
            meter.look()
            await asyncio.sleep(0.1)

    async def end() -> None:
        await meter.done.wait()
        ended.extend((_cpu_s(), time.perf_counter()))

    watching = [asyncio.ensure_future(watch()), asyncio.ensure_future(end())]
    if name == "bare":
        await bare(bootstrap, topic, meter)
    else:
        await ours(bootstrap, topic, meter, FUNCTIONS[name](meter))
    await asyncio.gather(*watching)
    return meter.result(ended[0], ended[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["bare", *FUNCTIONS])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(main(arguments.name, arguments.bootstrap, arguments.topic, arguments.count))))
