"""What any Consumer and Producer does: one suite for the broker in memory and for Apache Kafka."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from streamproc.errors import BrokerError, RecordTooLarge
from streamproc.model import OutRecord, TopicPartition
from streamproc.ports import Producer, RebalanceListener
from tests.contract.worlds import Kafka, Member, Memory, World


@pytest.fixture(
    params=[
        "memory",
        pytest.param("kafka", marks=pytest.mark.broker),
        pytest.param("kafka, without keys", marks=pytest.mark.broker),
        pytest.param("kafka, record by record", marks=pytest.mark.broker),
    ]
)
async def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        found: World = Memory()
    else:
        found = Kafka(
            request.getfixturevalue("bootstrap"),
            record_batches=request.param != "kafka, record by record",
            with_keys=request.param != "kafka, without keys",
        )
    await found.make()
    return found


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def producer(world: World, stack: AsyncExitStack) -> Producer:
    made = world.producer()
    await made.start()
    stack.push_async_callback(made.stop)
    return made


async def join(world: World, stack: AsyncExitStack, group: str = "g", position: str = "trim_horizon") -> Member:
    member = Member(world.consumer(group=group, position=position))
    stack.push_async_callback(member.consumer.stop)
    return await member.start()


async def write(world: World, producer: Producer, count: int, partition: int = 0) -> None:
    records = [OutRecord(world.topic, b"%d" % n, b"k", partition=partition) for n in range(count)]
    assert await producer.send(records) == [None] * count


async def test_records_come_whole_and_in_order(world: World, producer: Producer, stack: AsyncExitStack) -> None:
    written = [
        OutRecord(world.topic, b"one", b"key", [("h", b"1"), ("h", b"2"), ("n", None)], 1_700_000_000_123, 0),
        OutRecord(world.topic, None, b"tombstone", (), 1_700_000_000_124, 0),
        OutRecord(world.topic, b"", None, (), 1_700_000_000_125, 0),
    ]
    assert await producer.send(written) == [None, None, None]
    member = await join(world, stack)
    await member.poll_until(lambda: member.count() == 3)
    records = member.polled[TopicPartition(world.topic, 0)]
    found = [(record.offset, record.value, record.key, record.timestamp) for record in records]
    assert found == [
        (0, b"one", b"key", 1_700_000_000_123),
        (1, None, b"tombstone", 1_700_000_000_124),
        (2, b"", None, 1_700_000_000_125),
    ]
    assert list(records[0].headers) == [("h", b"1"), ("h", b"2"), ("n", None)]
    assert member.consumer.end_offsets()[TopicPartition(world.topic, 0)] == 3


async def test_a_group_goes_on_where_it_has_committed(world: World, producer: Producer, stack: AsyncExitStack) -> None:
    await write(world, producer, 10)
    first = await join(world, stack)
    assert first.assigned == {TopicPartition(world.topic, 0): 0, TopicPartition(world.topic, 1): 0}
    await first.poll_until(lambda: first.count() == 10)
    await first.consumer.commit({TopicPartition(world.topic, 0): 4})
    await first.consumer.stop()
    second = await join(world, stack)
    assert second.assigned[TopicPartition(world.topic, 0)] == 4
    await second.poll_until(lambda: second.count() == 6)
    assert [record.offset for record in second.polled[TopicPartition(world.topic, 0)]] == [4, 5, 6, 7, 8, 9]


async def test_where_a_group_began_is_remembered(world: World, producer: Producer, stack: AsyncExitStack) -> None:
    """Nobody has committed anything by himself: what is written while the group is away is read all the same."""
    await write(world, producer, 3, partition=0)
    await write(world, producer, 2, partition=1)
    first = await join(world, stack, position="latest")
    await first.poll_until(lambda: len(first.assigned) == 2)
    assert first.assigned == {TopicPartition(world.topic, 0): 3, TopicPartition(world.topic, 1): 2}
    await first.consumer.stop()
    await write(world, producer, 4, partition=1)
    second = await join(world, stack, position="latest")
    await second.poll_until(lambda: len(second.assigned) == 2)
    assert second.assigned == first.assigned
    await second.poll_until(lambda: second.count() == 4)


async def test_a_partition_that_comes_later_is_read_from_its_beginning(
    world: World, producer: Producer, stack: AsyncExitStack
) -> None:
    await write(world, producer, 3)
    member = await join(world, stack, position="latest")
    await member.poll_until(lambda: len(member.assigned) == 2)
    await world.grow(3)
    later = TopicPartition(world.topic, 2)
    fresh = world.producer()  # which knows of it
    await fresh.start()
    stack.push_async_callback(fresh.stop)
    await write(world, fresh, 2, partition=2)
    await member.poll_until(lambda: member.count() == 2)
    assert member.assigned == {TopicPartition(world.topic, 0): 3, TopicPartition(world.topic, 1): 0, later: 0}
    assert [record.offset for record in member.polled[later]] == [0, 1]


async def test_partitions_move_between_members(world: World, producer: Producer, stack: AsyncExitStack) -> None:
    first = await join(world, stack)
    assert len(first.assigned) == 2
    second = Member(world.consumer(group="g"))
    stack.push_async_callback(second.consumer.stop)
    await second.consumer.start(RebalanceListener(revoked=second._revoked, assigned=second._assigned))
    await first.poll_until(lambda: len(first.assigned) == 1 and len(second.assigned) == 1)
    assert set(first.assigned) | set(second.assigned) == {TopicPartition(world.topic, n) for n in (0, 1)}
    assert first.revocations == [{TopicPartition(world.topic, n) for n in (0, 1)}]
    (given_up,) = second.assigned
    with pytest.raises(BrokerError):
        await first.consumer.commit({given_up: 1})
    await second.consumer.stop()
    await first.poll_until(lambda: len(first.assigned) == 2)


async def test_only_the_partitions_asked_for_are_polled(
    world: World, producer: Producer, stack: AsyncExitStack
) -> None:
    await write(world, producer, 5, partition=0)
    await write(world, producer, 5, partition=1)
    member = await join(world, stack)
    both = member.assigned
    member.assigned = {TopicPartition(world.topic, 1): 0}
    await member.poll_until(lambda: member.count() == 5)
    assert set(member.polled) == {TopicPartition(world.topic, 1)}
    assert list(await member.consumer.poll((), 0, max_bytes=1)) == []
    member.assigned = both
    await member.poll_until(lambda: member.count() == 10)


async def test_an_offset_that_is_gone_stops_its_partition_alone(
    world: World, producer: Producer, stack: AsyncExitStack
) -> None:
    await write(world, producer, 3, partition=0)
    await write(world, producer, 3, partition=1)
    first = await join(world, stack)
    await first.consumer.commit({TopicPartition(world.topic, 0): 1_000})
    await first.consumer.stop()
    second = await join(world, stack)
    await second.poll_until(lambda: bool(second.stopped) and second.count() == 3)
    assert {(stop.partition.partition, stop.reason) for stop in second.stopped} == {(0, "offset_out_of_range")}
    assert set(second.polled) == {TopicPartition(world.topic, 1)}


async def test_a_missing_topic_is_said(world: World, stack: AsyncExitStack) -> None:
    consumer = world.consumer(group="g", topic="there-is-none")
    with pytest.raises(BrokerError, match="there-is-none"):
        await consumer.start(RebalanceListener(revoked=Member(consumer)._revoked, assigned=Member(consumer)._assigned))


async def test_what_is_not_acknowledged_is_said_record_by_record(
    world: World, producer: Producer, stack: AsyncExitStack
) -> None:
    large = OutRecord(world.topic, b"x" * 2_000_000, b"k", partition=0)
    good = OutRecord(world.topic, b"x", b"k", partition=1)
    results = await producer.send([good, large, good])
    assert results[0] is None
    assert isinstance(results[1], RecordTooLarge)
    assert results[2] is None
    assert await producer.send([]) == []
    refused = await producer.send([OutRecord("there-is-none", b"x", b"k")])
    assert isinstance(refused[0], BrokerError)
    await write(world, producer, 1)
