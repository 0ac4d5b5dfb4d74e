"""What only a real log holds: compressed batches, transaction markers, aborted records, batches of one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from streamproc.adapters.kafka_batches import merge
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition
from tests.contract.worlds import Kafka, Member

pytestmark = pytest.mark.broker


@pytest.fixture
async def world(bootstrap: str) -> Kafka:
    found = Kafka(bootstrap)
    await found.make()
    return found


@pytest.fixture
async def member(world: Kafka) -> AsyncIterator[Member]:
    found = Member(world.consumer(group="g"))
    yield found
    await found.consumer.stop()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_are_read(world: Kafka, member: Member, codec: str) -> None:
    servers = world.options.bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, compression_type=codec, linger_ms=50) as producer:
        await asyncio.gather(*[await producer.send(world.topic, b"%d" % n * 50, partition=0) for n in range(500)])
    await member.start()
    await member.poll_until(lambda: member.count() == 500)
    values = [record.value for record in member.polled[TopicPartition(world.topic, 0)]]
    assert values == [b"%d" % n * 50 for n in range(500)]


async def test_aborted_records_are_not_seen_and_markers_are_passed(world: Kafka, member: Member) -> None:
    servers = world.options.bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=world.topic) as producer:
        for number, fate in enumerate(("commit", "abort", "commit", "abort")):
            await producer.begin_transaction()
            for n in range(10):
                await producer.send_and_wait(world.topic, b"%d-%d" % (number, n), partition=0)
            await (producer.commit_transaction() if fate == "commit" else producer.abort_transaction())
    await member.start()
    where = TopicPartition(world.topic, 0)
    await member.poll_until(lambda: member.next_offsets.get(where) == 44)
    values = [record.value for record in member.polled[where]]
    assert values == [b"%d-%d" % (number, n) for number in (0, 2) for n in range(10)]
    await member.consumer.commit({where: 44})


async def test_batches_of_one_are_joined(world: Kafka, member: Member) -> None:
    async with AIOKafkaProducer(bootstrap_servers=world.options.bootstrap_servers) as producer:
        for n in range(200):
            await producer.send_and_wait(world.topic, b"%d" % n, partition=0)
    await member.start()
    where = TopicPartition(world.topic, 0)
    batches = [
        item for item in await member.consumer.poll([where], 5, max_bytes=10**9) if isinstance(item, RecordBatch)
    ]
    batches += [
        item for item in await member.consumer.poll([where], 0.5, max_bytes=10**9) if isinstance(item, RecordBatch)
    ]
    records = member.polled.get(where, []) + [record for batch in batches for record in batch.records]
    assert [record.offset for record in records] == list(range(200))
    assert len(batches) <= 2


def test_joining_keeps_order_and_ends_at_what_cannot_be_read() -> None:
    where = TopicPartition("t", 0)

    def one(offset: int) -> RecordBatch:
        return RecordBatch(where, [], start=offset, next_offset=offset + 1, nbytes=10)

    stopped = PartitionStopped(where, "unreadable_batch", "checksum")
    joined = list(merge([one(0), one(1), stopped, one(2)], 1_000))
    assert isinstance(joined[0], RecordBatch)
    assert (joined[0].start, joined[0].next_offset, joined[0].nbytes) == (0, 2, 20)
    assert joined[1:] == [stopped]
