"""The implementations of Consumer and Producer, each as a `World` that a test can be run in."""

import asyncio
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_topics import create_topics
from streamproc.adapters.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from streamproc.model import PartitionStopped, Record, RecordBatch, TopicPartition
from streamproc.ports import Consumer, Producer, RebalanceListener
from streamproc.stream.options import StreamOptions

PATIENCE_S = 30.0


class World(Protocol):
    """A broker with a topic of two partitions."""

    topic: str

    def consumer(self, *, group: str, topic: str = "", position: str = "trim_horizon") -> Consumer:
        """A new member of a group."""

    def producer(self) -> Producer:
        """A new producer."""

    async def make(self) -> None:
        """Makes the topic."""

    async def grow(self, partitions: int) -> None:
        """Gives the topic more partitions."""


class Memory:
    """The broker in memory."""

    def __init__(self) -> None:
        self.topic = "events"
        self.broker = MemoryBroker(time.time)

    def consumer(self, *, group: str, topic: str = "", position: str = "trim_horizon") -> Consumer:
        return MemoryConsumer(self.broker, group=group, topics=[topic or self.topic], starting_position=position)

    def producer(self) -> Producer:
        return MemoryProducer(self.broker)

    async def make(self) -> None:
        self.broker.create_topic(self.topic, 2)

    async def grow(self, partitions: int) -> None:
        self.broker.create_topic(self.topic, partitions)
        await self.broker.group("g").rebalance()


class Kafka:
    """Apache Kafka."""

    def __init__(self, bootstrap: str, *, record_batches: bool = True, with_keys: bool = True) -> None:
        self.topic = f"contract-{uuid.uuid4().hex[:12]}"
        self.options = KafkaOptions(bootstrap_servers=[bootstrap], record_batches=record_batches, metadata_age_max_s=1)
        self.with_keys = with_keys

    def consumer(self, *, group: str, topic: str = "", position: str = "trim_horizon") -> Consumer:
        stream = StreamOptions(topics=[topic or self.topic], starting_position=position)  # type: ignore[arg-type]
        options = msgspec.structs.replace(self.options, group_id=f"{self.topic}-{group}", session_timeout_s=6)
        return KafkaConsumer(options, stream, with_keys=self.with_keys)

    def producer(self) -> Producer:
        return KafkaProducer(self.options)

    async def make(self) -> None:
        await create_topics(self.options, {self.topic: 2})

    async def grow(self, partitions: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.options.bootstrap_servers)
        await admin.start()
        await admin.create_partitions({self.topic: NewPartitions(partitions)})
        await admin.close()


class Member:
    """A consumer with what its listener was told, and what it has polled."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.assigned: dict[TopicPartition, int] = {}
        self.revocations: list[set[TopicPartition]] = []
        self.polled: dict[TopicPartition, list[Record]] = {}
        self.stopped: list[PartitionStopped] = []
        self.next_offsets: dict[TopicPartition, int] = {}

    async def _revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.revocations.append(set(partitions))
        self.assigned = {}

    def _assigned(self, starts: Mapping[TopicPartition, int]) -> None:
        self.assigned |= starts

    async def start(self) -> "Member":
        """Joins, and waits for partitions."""
        await self.consumer.start(RebalanceListener(revoked=self._revoked, assigned=self._assigned))
        await self.poll_until(lambda: bool(self.assigned))
        return self

    async def poll(self) -> None:
        """Once."""
        for item in await self.consumer.poll(list(self.assigned), 0.05, max_bytes=10**9):
            if isinstance(item, PartitionStopped):
                self.stopped.append(item)
            else:
                self._keep(item)

    def _keep(self, batch: RecordBatch) -> None:
        assert batch.next_offset > self.next_offsets.get(batch.partition, -1)
        assert batch.start == self.next_offsets.get(batch.partition, self.assigned[batch.partition])
        self.next_offsets[batch.partition] = batch.next_offset
        self.polled.setdefault(batch.partition, []).extend(batch.records)

    async def poll_until(self, condition: object) -> None:
        """Until a condition holds."""
        assert callable(condition)
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.poll()
                await asyncio.sleep(0)

    def count(self) -> int:
        """Records polled so far."""
        return sum(map(len, self.polled.values()))
