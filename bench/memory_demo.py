"""The demo without Kafka: the same functions and pipeline on the broker in memory."""

import asyncio
from collections.abc import Iterable

from bench.generate import Produced
from bench.sinks import Stored
from handlers.app import app
from streamproc.adapters.memory import MemoryBroker, MemoryConsumer, MemoryProducer, StoredRecord
from streamproc.adapters.prometheus import Metrics
from streamproc.model import OutRecord
from streamproc.service import steady_clock
from streamproc.settings import Settings
from streamproc.stream.pipeline import Pipeline, Surroundings

PARTITIONS = 4
BREATH = 1_000
LOOK_S = 0.05


def run_in_memory(settings: Settings, records: Iterable[Produced], count: int) -> tuple[list[Stored], float]:
    """Runs the application on records; returns dead letters, and the seconds it took."""
    return asyncio.run(_run(settings, records, count))


async def _run(settings: Settings, records: Iterable[Produced], count: int) -> tuple[list[Stored], float]:
    loop = asyncio.get_running_loop()
    now = steady_clock()
    broker = MemoryBroker(now)
    topic, letters = "events", "events.dlq"
    for name in (topic, letters):
        broker.create_topic(name, PARTITIONS)
    async with app.services(settings) as services:
        around = Surroundings(
            consumer=MemoryConsumer(broker, group="shop", topics=[topic]),
            producer=MemoryProducer(broker),
            observer=Metrics(),
            services=services,
            group="shop",
            now=now,
        )
        pipeline = Pipeline(app.stream_functions, settings.stream, around)
        running = asyncio.ensure_future(pipeline.run())
        began = loop.time()
        for number, record in enumerate(records):
            broker.append(OutRecord(topic, record.value, record.key, record.headers))
            if number % BREATH == 0:
                await asyncio.sleep(0)
        group = broker.group("shop")
        while sum(group.committed.values()) < count and not running.done():
            await asyncio.sleep(LOOK_S)
        seconds = loop.time() - began
        await pipeline.stop(settings.stream.grace_s)
        await running
    return _stored(broker.records(letters)), seconds


def _stored(records: list[StoredRecord]) -> list[Stored]:
    return [Stored({name: value or b"" for name, value in record.headers}, record.value or b"") for record in records]
