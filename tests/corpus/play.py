"""Plays records through the real pipeline on a broker in memory that takes records of any size.

`streamproc.testing.run` has a broker of 1 MiB and shows no snapshot; this is for cases that need one of the two.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from streamproc import App, virtualtime
from streamproc.adapters.memory import MemoryBroker, MemoryConsumer, MemoryProducer, StoredRecord
from streamproc.model import OutRecord, Snapshot, TopicPartition
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.testing import EPOCH, NoObserver

TOPIC = "events"
GROUP = "corpus"


@dataclass(frozen=True, slots=True)
class Played:
    """How it ended: the pipeline's last snapshot, the dead letters, and the committed offset."""

    snapshot: Snapshot
    letters: Sequence[StoredRecord]
    committed: int


async def play(app: App, records: Sequence[OutRecord], *, record_bytes_max: int = 134_217_728) -> Played:
    """Plays records of topic `events` until each is settled and committed."""
    return await asyncio.to_thread(lambda: virtualtime.run(_play(app, records, record_bytes_max)))


async def _play(app: App, records: Sequence[OutRecord], record_bytes_max: int) -> Played:
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(lambda: EPOCH + loop.time(), record_bytes_max=record_bytes_max)
    broker.create_topic(TOPIC, 1)
    broker.create_topic(f"{TOPIC}.dlq", 1)
    for record in records:
        broker.append(record)
    around = Surroundings(
        consumer=MemoryConsumer(broker, group=GROUP, topics=[TOPIC]),
        producer=MemoryProducer(broker),
        observer=NoObserver(),
        services=None,
        group=GROUP,
        now=lambda: EPOCH + loop.time(),
        draw=lambda: 0.5,
        tick=virtualtime.tick,
        wall=lambda: EPOCH + loop.time(),
    )
    pipeline = Pipeline(app.functions, StreamOptions(topics=[TOPIC]), around)
    running = asyncio.ensure_future(pipeline.run())
    committed = broker.group(GROUP).committed
    async with asyncio.timeout(86_400):
        while committed.get(TopicPartition(TOPIC, 0), 0) < len(records) and not running.done():
            await asyncio.sleep(0.05)
    snapshot = pipeline.snapshot()
    await pipeline.stop(1.0)
    await running
    return Played(snapshot, broker.records(f"{TOPIC}.dlq"), committed[TopicPartition(TOPIC, 0)])
