"""A cluster and the real client's parts, alike in memory and on Apache Kafka, so that one is held to the other."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from tests.simulation.wire.cluster import Cluster

PATIENCE_S = 60.0


class World:
    """A cluster, with the name of a topic and of a group of the test's own. `cluster` is None on Apache Kafka."""

    def __init__(self, bootstrap: list[str], cluster: Cluster | None = None) -> None:
        self.bootstrap = bootstrap
        self.cluster = cluster
        name = "wire" if cluster is not None else uuid.uuid4().hex[:12]
        self.topic, self.group = f"t-{name}", f"g-{name}"
        self.stack = AsyncExitStack()

    def at(self, partition: int = 0) -> TopicPartition:
        """Returns a partition of the topic."""
        return TopicPartition(self.topic, partition)

    async def admin(self) -> AIOKafkaAdminClient:
        """Returns a started admin client."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        self.stack.push_async_callback(admin.close)
        return admin

    async def make_topic(self, partitions: int = 1, **configs: str) -> None:
        """Makes the topic, with settings whose names have underscores in place of dots."""
        admin = await self.admin()
        given = {name.replace("_", "."): text for name, text in configs.items()}
        answer = await admin.create_topics([NewTopic(self.topic, partitions, 1, topic_configs=given)])
        assert [code for _, code, *_ in answer.topic_errors] == [0]
        client = await self.client()
        await self.until(lambda: len(client.cluster.partitions_for_topic(self.topic) or ()) == partitions, client)

    async def client(self) -> AIOKafkaClient:
        """Returns a started client, for requests by hand."""
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap)
        await client.bootstrap()
        self.stack.push_async_callback(client.close)
        await client.set_topics([self.topic])
        return client

    async def producer(self, **options: Any) -> AIOKafkaProducer:
        """Returns a started producer."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **options)
        await producer.start()
        self.stack.push_async_callback(producer.stop)
        return producer

    async def consumer(self, *topics: str, listener: "Listener | None" = None, **options: Any) -> AIOKafkaConsumer:
        """Returns a started consumer of the topic in the group; of no topic where `group_id` is None."""
        given = {
            "group_id": self.group,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "heartbeat_interval_ms": 500,
            **options,
        }
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, **given)
        await consumer.start()
        self.stack.push_async_callback(consumer.stop)
        if given["group_id"] is not None:
            consumer.subscribe(topics or [self.topic], listener=listener)
        return consumer

    async def write(self, values: Iterable[bytes | None], partition: int = 0, **options: Any) -> list[int]:
        """Writes values with a producer of its own. Returns their offsets."""
        producer = await self.producer(**options)
        sent = [await producer.send(self.topic, value, key=b"k", partition=partition) for value in values]
        return [(await one).offset for one in sent]

    async def until(self, condition: Callable[[], object], client: AIOKafkaClient | None = None) -> None:
        """Waits for a condition, with fresh metadata each time if a client is given."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                if client is not None:
                    await client.force_metadata_update()
                await asyncio.sleep(0.02)


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """What a consumer was told of its assignments."""

    def __init__(self) -> None:
        self.assigned: set[int] = set()
        self.revocations: list[set[int]] = []

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Notes it."""
        self.revocations.append({one.partition for one in revoked})
        self.assigned = set()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Notes it."""
        self.assigned = {one.partition for one in assigned}


async def poll(consumer: AIOKafkaConsumer, count: int, *partitions: TopicPartition) -> list[Any]:
    """Polls until there are so many records. Raises TimeoutError, and what the client raises."""
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            for records in (await consumer.getmany(*partitions, timeout_ms=200)).values():
                found += records
    return found
