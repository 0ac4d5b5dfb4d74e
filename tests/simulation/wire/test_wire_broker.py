"""The cluster in memory does what Apache Kafka does, by the real client: most tests run on both."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.errors import (
    CommitFailedError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    ProducerFenced,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, ProtocolMetadata, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from tests.simulation.wire.cluster import Cluster
from tests.simulation.wire.log import batch_of
from tests.simulation.wire.protocol import Api, Code, MetadataRequest_v10
from tests.simulation.wire.run import run
from tests.simulation.wire.worlds import Listener, World, poll

Scenario = Callable[[World], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


@pytest.fixture(params=["wire", pytest.param("kafka", marks=pytest.mark.broker)])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario to its end, in memory or on Apache Kafka."""

    async def to_its_end(world: World, scenario: Scenario) -> None:
        async with world.stack:
            await scenario(world)

    def on_wire(scenario: Scenario) -> None:
        async def main(cluster: Cluster) -> None:
            await to_its_end(World(cluster.bootstrap, cluster), scenario)

        run(main, session_s=(6.0, 1800.0))

    def on_kafka(scenario: Scenario) -> None:
        asyncio.run(to_its_end(World([bootstrap]), scenario))

    if request.param == "wire":
        return on_wire
    bootstrap = request.getfixturevalue("bootstrap")
    return on_kafka


NOW = 1_700_000_000_000


def rows(*values: bytes, timestamp: int = NOW) -> list[tuple[bytes | None, bytes | None, tuple[()], int]]:
    return [(b"k", value, (), timestamp) for value in values]


async def produce(client: Any, world: World, raw: bytes, partition: int = 0) -> tuple[int, int]:
    """Sends a batch as it is. Returns error and offset."""
    node = client.cluster.leader_for_partition(world.at(partition))
    answer = await client.send(node, ProduceRequest(None, -1, 5_000, [(world.topic, [(partition, raw)])]))
    ((_, ((_, code, offset, *_),)),) = answer.topics
    return code, offset


async def commit(client: Any, world: World, generation: int, member_id: str, offset: int = 1) -> int:
    """Commits by hand. Returns the error."""
    node = await client.coordinator_lookup(0, world.group)
    topics = [(world.topic, [(0, offset, "")])]
    answer = await client.send(node, OffsetCommitRequest(world.group, generation, member_id, -1, topics))
    ((_, ((_, code),)),) = answer.topics
    return int(code)


# records


def test_records_come_whole_and_in_order(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        producer = await world.producer(enable_idempotence=True)
        headers = [("h", b"1"), ("h", b"2")]
        await producer.send_and_wait(world.topic, b"one", b"key", headers=headers, timestamp_ms=NOW + 1)
        await producer.send_and_wait(world.topic, None, b"tombstone", timestamp_ms=NOW + 2)
        for number in range(50):
            await producer.send(world.topic, b"%d" % number)
        await producer.flush()
        found = await poll(await world.consumer(), 52)
        assert [record.offset for record in found] == list(range(52))
        assert [record.value for record in found] == [b"one", None, *(b"%d" % number for number in range(50))]
        first, second = found[:2]
        assert (first.key, first.timestamp, list(first.headers)) == (b"key", NOW + 1, headers)
        assert (second.key, second.timestamp, list(second.headers)) == (b"tombstone", NOW + 2, [])

    play(scenario)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_come_whole(play: Play, codec: str) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        values = [b"%d" % number * 100 for number in range(30)]
        await world.write(values, compression_type=codec, linger_ms=20)
        assert [record.value for record in await poll(await world.consumer(), 30)] == values

    play(scenario)


def test_a_batch_sent_again_is_acknowledged_with_its_old_offset(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        client = await world.client()
        pid = (await client.send(client.get_random_node(), InitProducerIdRequest(None, 60_000))).producer_id
        batches = [batch_of(rows(b"a", b"b"), producer=(pid, 0, 2 * number)) for number in range(7)]
        answers = [await produce(client, world, raw) for raw in batches]
        assert answers == [(0, 2 * number) for number in range(7)]
        assert await produce(client, world, batches[6]) == (0, 12)
        assert await produce(client, world, batches[2]) == (0, 4), "the last five are known"
        assert (await produce(client, world, batches[1]))[0] == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        gap = batch_of(rows(b"c"), producer=(pid, 0, 15))
        assert (await produce(client, world, gap))[0] == Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert (await produce(client, world, batch_of(rows(b"c"), producer=(pid, 1, 3))))[0] == (
            Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        )
        assert (await produce(client, world, batch_of(rows(b"c"), producer=(pid, 1, 0)))) == (0, 14)
        assert (await produce(client, world, batch_of(rows(b"d"), producer=(pid, 0, 14))))[0] == (
            Code.INVALID_PRODUCER_EPOCH
        )

    play(scenario)


def test_what_can_never_be_taken_is_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(max_message_bytes="2000")
        producer = await world.producer()
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(world.topic, b"x" * 3_000)
        world_now = (await producer.send_and_wait(world.topic, b"x")).timestamp
        with pytest.raises(InvalidTimestampError):
            await producer.send_and_wait(world.topic, b"x", timestamp_ms=world_now + 3_700_000)
        await producer.send_and_wait(world.topic, b"x", timestamp_ms=world_now + 3_500_000)
        client = await world.client()
        whole = batch_of(rows(b"abc"))
        broken = whole[:-3] + b"?" + whole[-2:]
        assert await produce(client, world, broken) == (Code.CORRUPT_MESSAGE, -1)
        assert (await produce(client, world, whole))[0] == Code.NONE

    play(scenario)


def test_small_records_in_a_batch_that_is_too_large_are_refused_together(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(max_message_bytes="2000")
        producer = await world.producer(linger_ms=50)
        sent = [await producer.send(world.topic, b"x" * 500) for _ in range(6)]
        found = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(one) for one in found] == [MessageSizeTooLargeError] * 6

    play(scenario)


def test_append_time_replaces_the_producers(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(message_timestamp_type="LogAppendTime")
        producer = await world.producer()
        sent = await producer.send_and_wait(world.topic, b"x", timestamp_ms=1_000)
        (found,) = await poll(await world.consumer(), 1)
        assert sent.timestamp_type == found.timestamp_type == 1
        assert found.timestamp == sent.timestamp > NOW - 1

    play(scenario)


def test_a_record_larger_than_the_limits_of_a_fetch_comes_all_the_same(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        for size in (10, 5_000, 10):
            await world.write([b"x" * size])
        consumer = await world.consumer(max_partition_fetch_bytes=100, fetch_max_bytes=100)
        assert [len(record.value) for record in await poll(consumer, 3)] == [10, 5_000, 10]

    play(scenario)


# transactions


async def committed_offset(admin: Any, world: World, expected: int) -> int:
    """Returns the group's offset, which may take a moment to be what is expected."""
    for _ in range(100):
        found = await admin.list_consumer_group_offsets(world.group, partitions=[world.at()])
        if found[world.at()].offset == expected:
            break
        await asyncio.sleep(0.02)
    return int(found[world.at()].offset)


def test_aborted_records_are_hidden_and_the_end_is_the_last_stable_offset(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        await world.write([b"plain"])
        producer = await world.producer(transactional_id=f"tx-{world.topic}")
        for ends in ("commit", "abort", "commit"):
            await producer.begin_transaction()
            await producer.send_and_wait(world.topic, ends.encode())
            await producer.send_and_wait(world.topic, b"and another")
            await (producer.commit_transaction() if ends == "commit" else producer.abort_transaction())
        await producer.begin_transaction()
        await producer.send_and_wait(world.topic, b"open")
        await world.write([b"behind the open one"])
        committed = await world.consumer(isolation_level="read_committed", group_id=None)
        dirty = await world.consumer(group_id=None)
        for consumer in (committed, dirty):
            consumer.assign([world.at()])
            await consumer.seek_to_beginning()
        found = await poll(committed, 5)
        assert [record.value for record in found] == [b"plain", b"commit", b"and another", b"commit", b"and another"]
        assert await committed.getmany(timeout_ms=100) == {}
        await world.until(lambda: committed.last_stable_offset(world.at()) == 10)
        assert await committed.position(world.at()) == 10
        assert committed.highwater(world.at()) == 12
        assert await committed.end_offsets([world.at()]) == {world.at(): 10}
        assert await dirty.end_offsets([world.at()]) == {world.at(): 12}
        values = [record.value for record in await poll(dirty, 9)]
        assert values[3] == b"abort"
        assert values[-2:] == [b"open", b"behind the open one"]
        await producer.commit_transaction()
        assert [record.value for record in await poll(committed, 2)] == [b"open", b"behind the open one"]

    play(scenario)


def test_a_transaction_commits_offsets_with_its_records(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        producer = await world.producer(transactional_id=f"tx-{world.topic}")
        reader = await world.consumer(group_id=None)
        admin = await world.admin()
        for offset, commits in ((3, False), (5, True)):
            await producer.begin_transaction()
            await producer.send_and_wait(world.topic, b"x")
            await producer.send_offsets_to_transaction({world.at(): offset}, world.group)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
            while await reader.end_offsets([world.at()]) != {world.at(): 4 if commits else 2}:
                await asyncio.sleep(0.02)  # until the marker is written
            found = await committed_offset(admin, world, 5 if commits else -1)
            assert found == (5 if commits else -1)

    play(scenario)


def test_a_producer_is_fenced_by_its_successor(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        first = await world.producer(transactional_id=f"tx-{world.topic}")
        await first.begin_transaction()
        await first.send_and_wait(world.topic, b"lost")
        second = await world.producer(transactional_id=f"tx-{world.topic}")
        with pytest.raises(ProducerFenced):
            await first.commit_transaction()
        await second.begin_transaction()
        await second.send_and_wait(world.topic, b"kept")
        await second.commit_transaction()
        found = await poll(await world.consumer(isolation_level="read_committed"), 1)
        assert [record.value for record in found] == [b"kept"]

    play(scenario)


# offsets


def test_offsets_are_listed_by_end_and_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        producer = await world.producer()
        for number in range(5):
            await producer.send_and_wait(world.topic, b"%d" % number, timestamp_ms=NOW + 100 * number)
        consumer = await world.consumer(group_id=None)
        at = world.at()
        assert await consumer.beginning_offsets([at]) == {at: 0}
        assert await consumer.end_offsets([at]) == {at: 5}
        for wanted, offset in ((NOW - 5, 0), (NOW + 100, 1), (NOW + 101, 2), (NOW + 400, 4)):
            found = (await consumer.offsets_for_times({at: wanted}))[at]
            assert (found.offset, found.timestamp) == (offset, NOW + 100 * offset)
        missing = (await consumer.offsets_for_times({at: NOW + 401}))[at]
        assert missing is None or missing.offset == -1

    play(scenario)


def test_an_offset_that_is_gone_is_out_of_range(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        for number in range(6):
            await world.write([b"%d" % number])
        admin = await world.admin()
        assert await admin.delete_records({world.at(): RecordsToDelete(before_offset=4)}) == {world.at(): 4}
        consumer = await world.consumer(group_id=None, auto_offset_reset="none")
        consumer.assign([world.at()])
        assert await consumer.beginning_offsets([world.at()]) == {world.at(): 4}
        for offset in (3, 7):
            consumer.seek(world.at(), offset)
            with pytest.raises(OffsetOutOfRangeError):
                await poll(consumer, 1)
        consumer.seek(world.at(), 4)
        assert [record.value for record in await poll(consumer, 2)] == [b"4", b"5"]
        consumer.seek(world.at(), 6)
        assert await consumer.getmany(timeout_ms=100) == {}

    play(scenario)


def test_commits_keep_their_metadata_and_have_a_limit(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        await world.write([b"x"] * 3)
        consumer = await world.consumer()
        await poll(consumer, 3)
        await consumer.commit({world.at(): (2, "a note")})
        with pytest.raises(OffsetMetadataTooLargeError):
            await consumer.commit({world.at(): (3, "x" * 4_097)})
        found = await (await world.admin()).list_consumer_group_offsets(world.group)
        assert {at: tuple(one) for at, one in found.items()} == {world.at(): (2, "a note")}

    play(scenario)


# groups


def test_members_share_and_rebalance(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(4)
        told = [Listener(), Listener()]
        first = await world.consumer(listener=told[0])
        await world.until(lambda: told[0].assigned == {0, 1, 2, 3})
        second = await world.consumer(listener=told[1])
        await world.until(lambda: len(told[0].assigned) == 2 and len(told[1].assigned) == 2)
        assert told[0].assigned | told[1].assigned == {0, 1, 2, 3}
        assert told[0].revocations[-1] == {0, 1, 2, 3}
        described = await (await world.admin()).describe_consumer_groups([world.group])
        ((_, name, state, kind, protocol, members),) = described[0].groups
        assert (name, state, kind, protocol, len(members)) == (world.group, "Stable", "consumer", "roundrobin", 2)
        await second.stop()
        await world.until(lambda: told[0].assigned == {0, 1, 2, 3})
        await first.stop()
        groups = await (await world.admin()).list_consumer_groups()
        assert (world.group, "consumer") in groups

    play(scenario)


async def unsent() -> bool:
    """A heartbeat that never leaves the client."""
    return True


def test_a_member_that_is_not_heard_of_is_evicted_and_fenced(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(2)
        await world.write([b"x"] * 2)
        told = [Listener(), Listener()]
        short = {"session_timeout_ms": 6_000, "rebalance_timeout_ms": 6_000}
        zombie = await world.consumer(listener=told[0], **short)
        await poll(zombie, 2)
        generation, member_id = zombie._coordinator.generation, zombie._coordinator.member_id
        zombie._coordinator._do_heartbeat = unsent
        await world.consumer(listener=told[1], **short)
        await world.until(lambda: told[1].assigned == {0, 1})
        assert told[0].assigned == {0, 1}, "it does not know"
        with pytest.raises(CommitFailedError):
            await zombie.commit({world.at(): 1})
        assert zombie._coordinator.generation == -1
        client = await world.client()
        assert await commit(client, world, generation, member_id) == Code.UNKNOWN_MEMBER_ID

    play(scenario)


async def join(
    client: Any, world: World, member_id: str = "", instance_id: str | None = None, name: str = "range"
) -> Any:
    """Joins by hand, with the second request that a new member needs."""
    node = await client.coordinator_lookup(0, world.group)
    metadata = ProtocolMetadata(0, [world.topic], b"").encode()
    asks = JoinGroupRequest(world.group, 6_000, 6_000, member_id, instance_id, "consumer", [(name, metadata)])
    answer = await client.send(node, asks)
    if answer.error_code == Code.MEMBER_ID_REQUIRED:
        return await join(client, world, answer.member_id, instance_id, name)
    return answer


async def sync(client: Any, world: World, joined: Any, instance_id: str | None = None, assignment: bytes = b"") -> Any:
    """Syncs by hand, as the leader."""
    node = await client.coordinator_lookup(0, world.group)
    given = [(joined.member_id, assignment)]
    return await client.send(
        node, SyncGroupRequest(world.group, joined.generation_id, joined.member_id, instance_id, given)
    )


async def beat(client: Any, world: World, generation: int, member_id: str) -> int:
    """Sends a heartbeat by hand. Returns the error."""
    node = await client.coordinator_lookup(0, world.group)
    return int((await client.send(node, HeartbeatRequest(world.group, generation, member_id))).error_code)


def test_requests_are_checked_by_member_and_generation(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        client = await world.client()
        assert await commit(client, world, 3, "nobody") == Code.ILLEGAL_GENERATION, "there is no group"
        assert await commit(client, world, -1, "") == Code.NONE, "nobody is in the group"
        assert await commit(client, world, 0, "nobody") == Code.UNKNOWN_MEMBER_ID
        joined = await join(client, world)
        assert (joined.error_code, joined.leader_id) == (Code.NONE, joined.member_id)
        generation, member_id = joined.generation_id, joined.member_id
        assert await commit(client, world, generation, member_id) == Code.REBALANCE_IN_PROGRESS, "it has not synced"
        assert await beat(client, world, generation, member_id) == Code.NONE
        synced = await sync(client, world, joined, assignment=b"all of it")
        assert (synced.error_code, synced.member_assignment) == (Code.NONE, b"all of it")
        assert (await sync(client, world, joined)).member_assignment == b"all of it"
        assert await commit(client, world, generation, member_id) == Code.NONE
        assert await commit(client, world, generation - 1, member_id) == Code.ILLEGAL_GENERATION
        assert await commit(client, world, generation, "another") == Code.UNKNOWN_MEMBER_ID
        assert await commit(client, world, -1, "") == Code.UNKNOWN_MEMBER_ID, "somebody is in the group"
        assert await beat(client, world, generation + 1, member_id) == Code.ILLEGAL_GENERATION
        assert await beat(client, world, generation, "another") == Code.UNKNOWN_MEMBER_ID
        assert (await join(client, world, "another")).error_code == Code.UNKNOWN_MEMBER_ID
        assert (await join(client, world, name="nobody else's")).error_code == Code.INCONSISTENT_GROUP_PROTOCOL

    play(scenario)


def test_commits_are_taken_while_a_group_prepares_to_rebalance(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        client, other = await world.client(), await world.client()
        joined = await join(client, world)
        await sync(client, world, joined)
        joining = asyncio.create_task(join(other, world))
        async with asyncio.timeout(10):
            while await beat(client, world, joined.generation_id, joined.member_id) != Code.REBALANCE_IN_PROGRESS:
                await asyncio.sleep(0.02)
        assert await commit(client, world, joined.generation_id, joined.member_id) == Code.NONE
        assert (await sync(client, world, joined)).error_code == Code.REBALANCE_IN_PROGRESS
        again = await join(client, world, joined.member_id)
        second = await joining
        assert again.generation_id == second.generation_id == joined.generation_id + 1
        assert again.leader_id == second.leader_id == joined.member_id
        assert len(again.members) == 2
        assert second.members == []
        assert await commit(client, world, joined.generation_id, joined.member_id) == Code.ILLEGAL_GENERATION

    play(scenario)


def test_a_member_that_never_joins_again_is_left_out(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        client, other = await world.client(), await world.client()
        joined = await join(client, world)
        await sync(client, world, joined)
        joining = asyncio.create_task(join(other, world))
        while not joining.done():
            await beat(client, world, joined.generation_id, joined.member_id)
            await asyncio.sleep(0.5)
        second = joining.result()
        assert second.leader_id == second.member_id
        assert await beat(client, world, joined.generation_id, joined.member_id) == Code.UNKNOWN_MEMBER_ID

    play(scenario)


def test_a_static_member_is_replaced_by_its_namesake(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        client, other = await world.client(), await world.client()
        first = await join(client, world, instance_id="a")
        await sync(client, world, first, "a", b"the assignment")
        second = await join(other, world, instance_id="a")
        assert second.error_code == Code.NONE
        assert second.generation_id == first.generation_id, "nobody else is disturbed"
        assert second.member_id != first.member_id
        assert second.leader_id == first.member_id, "as versions before 9 have it"
        assert (await sync(other, world, second, "a")).member_assignment == b"the assignment"
        generation = first.generation_id
        assert await beat(client, world, generation, first.member_id) == Code.UNKNOWN_MEMBER_ID
        assert await commit(client, world, generation, first.member_id) == Code.UNKNOWN_MEMBER_ID
        assert await commit(other, world, generation, second.member_id) == Code.NONE
        assert (await join(client, world, first.member_id, "a")).error_code == Code.FENCED_INSTANCE_ID

    play(scenario)


def test_two_consumers_of_one_name_throw_each_other_out(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        told = [Listener(), Listener()]
        await world.consumer(listener=told[0], group_instance_id="a")
        await world.until(lambda: told[0].assigned == {0})
        await world.consumer(listener=told[1], group_instance_id="a")
        await world.until(lambda: len(told[0].revocations) > 2 and len(told[1].revocations) > 2)

    play(scenario)


# topics


class TopicIds(Request[MetadataRequest_v10]):  # type: ignore[misc]
    """Asks for the ids of topics."""

    API_KEY = Api.METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(bytes(16), self._topic, {})], False, False, False, {})


async def topic_id(client: Any, world: World) -> bytes:
    """Returns the id of the world's topic."""
    ((code, name, found, *_),) = (await client.send(client.get_random_node(), TopicIds(world.topic))).topics
    assert (code, name) == (Code.NONE, world.topic)
    return bytes(found)


def test_a_topic_that_grows_is_read_whole(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic(1)
        told = Listener()
        consumer = await world.consumer(listener=told, metadata_max_age_ms=1_000)
        await world.until(lambda: told.assigned == {0})
        admin = await world.admin()
        await admin.create_partitions({world.topic: NewPartitions(3)})
        await world.until(lambda: told.assigned == {0, 1, 2})
        await world.write([b"new"], partition=2)
        (found,) = await poll(consumer, 1)
        assert (found.partition, found.offset) == (2, 0)

    play(scenario)


def test_a_topic_made_anew_begins_anew(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.make_topic()
        await world.write([b"old"] * 3)
        consumer = await world.consumer()
        await poll(consumer, 3)
        await consumer.commit()
        await consumer.stop()
        admin, client = await world.admin(), await world.client()
        old_id = await topic_id(client, world)
        await admin.delete_topics([world.topic])

        async def code() -> int:
            return int((await client.send(client.get_random_node(), MetadataRequest([world.topic]))).topics[0][0])

        async with asyncio.timeout(30):
            while await code() != Code.UNKNOWN_TOPIC_OR_PARTITION:
                await asyncio.sleep(0.05)
        assert await committed_offset(admin, world, -1) == -1
        await world.make_topic()
        assert await world.write([b"new"]) == [0]
        assert await topic_id(client, world) not in (old_id, bytes(16))

    play(scenario)
