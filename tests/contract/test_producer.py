"""Records that the broker will never take: each Producer says so of that record alone, and harms no other."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_topics import create_topics, delete_topics
from streamproc.adapters.memory import MemoryBroker, MemoryProducer
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.model import OutRecord
from streamproc.ports import Producer
from tests.integration.harness import read_all

LIMIT = 2_000
DAY_MS = 86_400_000


class Memory:
    """A topic in memory that takes 2,000 bytes a record."""

    def __init__(self) -> None:
        self.topic = "events"
        self.broker = MemoryBroker(time.time, record_bytes_max=LIMIT)
        self.broker.create_topic(self.topic, 1)
        self.producer: Producer = MemoryProducer(self.broker)

    async def values(self) -> list[bytes]:
        """What the topic holds."""
        return [record.value or b"" for record in self.broker.records(self.topic)]


class Kafka:
    """A topic of one partition on Apache Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topic = f"producer-{uuid.uuid4().hex[:12]}"
        self.options = KafkaOptions(bootstrap_servers=[bootstrap])
        self.producer: Producer = KafkaProducer(self.options)

    async def values(self) -> list[bytes]:
        """What the topic holds."""
        return [record.value or b"" for record in await read_all(self.bootstrap, self.topic)]


@asynccontextmanager
async def kafka(bootstrap: str, configs: Mapping[str, str]) -> AsyncIterator[Kafka]:
    """A topic with configs of its own, and a producer."""
    made = Kafka(bootstrap)
    await create_topics(made.options, {made.topic: 1}, configs)
    await made.producer.start()
    yield made
    await made.producer.stop()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
async def small(request: pytest.FixtureRequest) -> AsyncIterator[Memory | Kafka]:
    """A topic that takes 2,000 bytes at once."""
    if request.param == "memory":
        yield Memory()
        return
    async with kafka(request.getfixturevalue("bootstrap"), {"max.message.bytes": str(LIMIT)}) as made:
        yield made


def records(topic: str, *sizes: int, key: bytes = b"k") -> list[OutRecord]:
    return [OutRecord(topic, b"%05d" % n + b"x" * size, key) for n, size in enumerate(sizes)]


async def test_small_records_are_not_refused_for_the_size_of_their_batch(small: Memory | Kafka) -> None:
    sent = records(small.topic, *[100] * 200)
    assert await small.producer.send(sent) == [None] * 200
    assert await small.values() == [record.value for record in sent]


async def test_only_what_is_too_large_alone_is_called_so_and_the_rest_keeps_its_order(small: Memory | Kafka) -> None:
    sizes = [3_000 if n in (0, 7, 8, 40, 99) else 100 for n in range(100)]
    sent = records(small.topic, *sizes)
    for again in range(3):
        results = await small.producer.send(sent)
        assert [type(result) for result in results] == [type(None) if size == 100 else RecordTooLarge for size in sizes]
        taken = [record.value for record, size in zip(sent, sizes, strict=True) if size == 100]
        assert await small.values() == taken * (again + 1)


async def test_what_others_send_meanwhile_is_not_harmed(small: Memory | Kafka) -> None:
    async def one(name: bytes) -> None:
        mine = [OutRecord(small.topic, name + b"%03d" % n, name) for n in range(100)]
        for first in range(0, 100, 10):
            assert await small.producer.send(mine[first : first + 10]) == [None] * 10

    async def large() -> None:
        for _ in range(10):
            (result,) = await small.producer.send(records(small.topic, 3_000))
            assert isinstance(result, RecordTooLarge)

    await asyncio.gather(one(b"a"), one(b"b"), large(), one(b"c"), large())
    values = await small.values()
    for name in (b"a", b"b", b"c"):
        assert [value for value in values if value.startswith(name)] == [name + b"%03d" % n for n in range(100)]


@pytest.mark.broker
@pytest.mark.parametrize(
    ("configs", "refused"),
    [
        ({"cleanup.policy": "compact"}, {"key": None}),
        ({"message.timestamp.after.max.ms": "1000"}, {"timestamp": int(time.time() * 1000) + 10 * DAY_MS}),
        ({"message.timestamp.before.max.ms": "1000"}, {"timestamp": 1_000}),
    ],
)
async def test_what_the_broker_never_takes_is_refused_alone(
    bootstrap: str, configs: Mapping[str, str], refused: Mapping[str, Any]
) -> None:
    async with kafka(bootstrap, configs) as made:
        good = records(made.topic, *[10] * 9)
        bad = OutRecord(**{"topic": made.topic, "value": b"bad", "key": b"k", **refused})
        for _ in range(2):
            results = await made.producer.send([*good[:4], bad, *good[4:]])
            assert isinstance(results.pop(4), RecordRefused)
            assert results == [None] * 9
        assert await made.values() == [record.value for record in good] * 2


@pytest.mark.broker
@pytest.mark.parametrize(
    "unfit",
    [
        {"headers": [("\ud800", b"x")]},
        {"headers": [("name", "text")]},
        {"headers": [(b"name", b"x")]},
        {"key": 5},
        {"value": "text"},
        {"timestamp": 2**70},
        {"topic": "no topic!"},
        {"value": b"x" * 70_000_000},
    ],
    ids=lambda unfit: f"{next(iter(unfit))}",
)
async def test_what_cannot_be_encoded_is_refused_alone(bootstrap: str, unfit: Mapping[str, Any]) -> None:
    async with kafka(bootstrap, {}) as made:
        good = OutRecord(made.topic, b"good", b"k")
        results = await made.producer.send([good, OutRecord(**{"topic": made.topic, "value": b"v", **unfit}), good])
        assert isinstance(results[1], RecordRefused)
        assert (results[0], results[2]) == (None, None)
        assert await made.values() == [b"good", b"good"]


@pytest.mark.broker
async def test_a_topic_that_does_not_exist_harms_no_other(bootstrap: str) -> None:
    async with kafka(bootstrap, {}) as made:
        good = OutRecord(made.topic, b"good", b"k")
        missing = asyncio.ensure_future(made.producer.send([OutRecord("there-is-none", b"x"), good]))
        while not missing.done():
            assert await made.producer.send([good]) == [None]
            await asyncio.sleep(0.05)
        error, sent = missing.result()
        assert isinstance(error, BrokerError)
        assert not isinstance(error, RecordRefused)
        assert "Kafka tells of no such topic" in str(error)
        assert sent is None


@pytest.mark.broker
async def test_a_producer_that_cannot_send_is_given_up_whole(bootstrap: str) -> None:
    """Its topic was deleted after it was known: the client would try for ever, once more for each call."""
    before = asyncio.all_tasks()
    async with kafka(bootstrap, {}) as made:
        assert await made.producer.send([OutRecord(made.topic, b"x")]) == [None]
        await delete_topics(made.options, [made.topic])
        (error,) = await made.producer.send([OutRecord(made.topic, b"x")])
        assert isinstance(error, BrokerError)
        assert not isinstance(error, RecordRefused)
        assert "Kafka tells of no such topic" in str(error)
    left = asyncio.all_tasks() - before
    if left:
        assert (await asyncio.wait(left, timeout=5))[1] == set()
