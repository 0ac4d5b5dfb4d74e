"""A pipeline over the real client, in the process of the test, which sees what it was given."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import msgspec

from streamproc import Context, Event, Stream
from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.prometheus import Metrics
from streamproc.model import PartitionSnapshot, TopicPartition
from streamproc.service import steady_clock
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from tests.integration.harness import until


class Number(Event, tag="number"):
    """The n-th record."""

    n: int


class Member:
    """A running pipeline of one function, which keeps the numbers it is given in `seen`."""

    def __init__(self, kafka: KafkaOptions, stream: StreamOptions, **declared: Any) -> None:
        self.seen: list[int] = []
        self.gate = asyncio.Event()
        """Calls wait for it."""
        self.gate.set()
        self.metrics = Metrics()
        self.producer = KafkaProducer(kafka)
        self.consumer = KafkaConsumer(kafka, stream)
        around = Surroundings(
            consumer=self.consumer,
            producer=self.producer,
            observer=self.metrics,
            services=None,
            group=kafka.group_id,
            now=steady_clock(),
        )
        self.pipeline = Pipeline([Stream(Number, self._take, **declared)], stream, around)
        self.running = asyncio.ensure_future(self.pipeline.run())

    async def _take(self, number: Number, ctx: Context[None]) -> None:
        await self.gate.wait()
        self.seen.append(number.n)

    def partitions(self) -> dict[int, PartitionSnapshot]:
        """The partitions of its first topic, by number."""
        return {one.partition.partition: one for one in self.pipeline.snapshot().partitions}

    def backlog(self, partition: TopicPartition) -> int | None:
        """What is left to do of a partition, None while its end is not known."""
        end = self.consumer.end_offsets().get(partition)
        done = [one.done for one in self.pipeline.snapshot().partitions if one.partition == partition]
        return None if end is None or not done else end - done[0]

    async def until(self, condition: Any, what: str) -> None:
        """Waits while the pipeline runs."""
        await until(lambda: condition() or (self.running.done() and bool(self.running.result())), what)

    async def leave(self) -> None:
        """Drains and ends."""
        if not self.running.done():
            await self.pipeline.stop(5.0)
        await asyncio.wait([self.running])
        await self.producer.stop()


def options(bootstrap: str, group: str, **changed: Any) -> KafkaOptions:
    """Short sessions, and metadata that is a second old at most."""
    base = KafkaOptions(bootstrap_servers=[bootstrap], group_id=group, session_timeout_s=6, metadata_age_max_s=1)
    return msgspec.structs.replace(base, **changed)


@asynccontextmanager
async def member(
    kafka: KafkaOptions, topics: list[str], *, declared: Any = None, **stream: Any
) -> AsyncIterator[Member]:
    """A member that has joined, and leaves at the end."""
    settings = StreamOptions(topics=topics, format="json", commit_interval_s=0.1, **stream)
    made = Member(kafka, settings, **(declared or {}))
    try:
        await made.until(lambda: bool(made.partitions()), "partitions are assigned")
        yield made
    finally:
        await made.leave()


@asynccontextmanager
async def writing(bootstrap: str, **chosen: Any) -> AsyncIterator[aiokafka.AIOKafkaProducer]:
    """A producer of the client's own."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **chosen)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def number(n: int, *, size: int = 0) -> bytes:
    """A record's value."""
    return b'{"type":"number","n":%d}' % n + b" " * size


def stamp() -> str:
    """A name that no other test has."""
    return f"{time.time_ns()}"
