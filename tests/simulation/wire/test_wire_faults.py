"""What the cluster in memory can be told to do: cut, hold, refuse, freeze, kill, move and forget. Seeds replay."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, TopicAuthorizationFailedError
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from tests.simulation.wire.cluster import Cluster
from tests.simulation.wire.faults import Trouble
from tests.simulation.wire.groups import State
from tests.simulation.wire.log import TopicConfig
from tests.simulation.wire.protocol import Api, Code
from tests.simulation.wire.run import run
from tests.simulation.wire.storm import faults, storm
from tests.simulation.wire.worlds import Listener, World, poll

Scenario = Callable[[Cluster, World], Coroutine[Any, Any, None]]
ROOT = Path(__file__).parents[3]
SESSION: Any = {"session_timeout_ms": 6_000, "rebalance_timeout_ms": 6_000}


def play(scenario: Scenario, **options: Any) -> Cluster:
    """Runs a scenario on a cluster with a topic of two partitions."""

    async def main(cluster: Cluster) -> Cluster:
        world = World(cluster.bootstrap, cluster)
        cluster.create_topic(world.topic, 2)
        async with world.stack:
            await scenario(cluster, world)
        return cluster

    return run(main, **options)


def values(cluster: Cluster, world: World) -> list[bytes | None]:
    return [record.value for _, record in cluster.records(world.topic)]


# replay


@pytest.mark.parametrize("seed", range(10))
def test_a_storm_passes(seed: int) -> None:
    run(storm, seed=seed, faults=faults, nodes=3)


def test_a_seed_takes_the_same_steps_each_time() -> None:
    stories = [run(storm, seed=7, faults=faults, nodes=3).story() for _ in range(2)]
    assert len(stories[0]) > 200
    assert stories[0] == stories[1]
    assert run(storm, seed=8, faults=faults, nodes=3).story() != stories[0]


def test_a_seed_takes_the_same_steps_in_another_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.wire.storm", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1
    assert told.pop().splitlines() == run(storm, seed=7, faults=faults, nodes=3).story()


def test_what_fails_is_told_with_its_trace() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        await world.write([b"x"])
        raise AssertionError("something does not hold")

    with pytest.raises(AssertionError) as caught:
        play(scenario, seed=3)
    (note,) = caught.value.__notes__
    assert "PRODUCE" in note
    assert note.endswith("seed 3")


# requests


@pytest.mark.parametrize(("idempotent", "copies"), [(True, 1), (False, 2)])
def test_a_lost_answer_makes_a_copy_unless_the_producer_is_idempotent(idempotent: bool, copies: int) -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        cluster.faults.once(Api.PRODUCE, Trouble(cut="after"))
        assert await world.write([b"x"], enable_idempotence=idempotent) == [copies - 1]
        assert values(cluster, world) == [b"x"] * copies

    play(scenario)


def test_a_request_cut_before_its_effect_has_none() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        cluster.faults.once(Api.PRODUCE, Trouble(cut="before"))
        assert await world.write([b"x"]) == [0]
        assert values(cluster, world) == [b"x"]

    play(scenario)


@pytest.mark.parametrize("effect", [False, True])
def test_an_error_may_come_for_one_partition_with_or_without_the_effect(effect: bool) -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        only = frozenset({(world.topic, 1)})
        cluster.faults.once(Api.PRODUCE, Trouble(error=Code.REQUEST_TIMED_OUT, effect=effect, only=only))
        producer = await world.producer(linger_ms=10)
        sent = [await producer.send(world.topic, b"%d" % number, partition=number) for number in (0, 1)]
        assert [(await one).offset for one in sent] == [0, int(effect)]
        assert values(cluster, world) == [b"0", b"1", *([b"1"] if effect else [])]

    play(scenario)


def test_answers_keep_their_order_on_one_connection_only() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        one, other = await world.client(), await world.client()
        began = cluster.now()
        cluster.faults.once(Api.METADATA, Trouble(after_s=2.0))
        asked = [client.send(1, MetadataRequest([])) for client in (one, one, other)]
        times: list[float] = []

        async def timed(request: Coroutine[Any, Any, Any]) -> None:
            await request
            times.append(round(cluster.now() - began, 1))

        await asyncio.gather(*map(timed, asked))
        assert times == [0.0, 2.0, 2.0]

    play(scenario)


def test_an_error_of_a_whole_offset_fetch_names_no_partition() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        cluster.commit_offsets(world.group, {(world.topic, 0): (7, "")})
        cluster.faults.once(Api.OFFSET_FETCH, Trouble(error=Code.COORDINATOR_LOAD_IN_PROGRESS))
        client = await world.client()
        for code, topics in ((14, []), (0, [(world.topic, [(0, 7, "", 0)])])):
            answer = await client.send(1, OffsetFetchRequest(world.group, [(world.topic, [0])]))
            assert (answer.error_code, answer.topics) == (code, topics)

    play(scenario)


def test_reading_one_topic_is_denied_and_allowed_again() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        cluster.create_topic("other")
        cluster.append("other", 0, [b"closed"])
        cluster.append(world.topic, 0, [b"open"])
        cluster.deny("other", "read")
        consumer = await world.consumer(world.topic, "other")
        with pytest.raises(TopicAuthorizationFailedError):
            await poll(consumer, 3)
        cluster.deny("other")
        found = await poll(consumer, 1, TopicPartition("other", 0))
        assert [record.value for record in found] == [b"closed"]

    play(scenario)


# the network and processes


def test_a_silent_network_holds_what_is_sent() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        client = await world.client()
        name = cluster.network.connections[-1].client
        cluster.network.silence(name, for_s=5.0)
        began = cluster.now()
        await client.send(1, MetadataRequest([]))
        assert 5.0 < cluster.now() - began < 5.1
        cluster.network.cut(name)
        await asyncio.sleep(0.1)
        await client.send(1, MetadataRequest([]))

    play(scenario)


def test_a_connection_that_is_cut_fails_its_requests() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        client = await world.client()
        cluster.faults.once(Api.METADATA, Trouble(cut="before"))
        with pytest.raises(KafkaConnectionError):
            await client.send(1, MetadataRequest([]))

    play(scenario)


def test_a_frozen_process_is_evicted_and_learns_of_it_when_it_goes_on() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        told = [Listener(), Listener()]
        process = cluster.loop.process("w0")
        zombie = await process.start(world.consumer(listener=told[0], **SESSION))
        await world.until(lambda: told[0].assigned == {0, 1})
        process.freeze()
        await world.consumer(listener=told[1], **SESSION)
        began = cluster.now()
        await world.until(lambda: told[1].assigned == {0, 1})
        assert 5.0 < cluster.now() - began < 7.0
        assert told[0].revocations[1:] == []
        process.thaw()
        with pytest.raises(CommitFailedError):
            await process.start(zombie.commit({world.at(): 1}))
        await world.until(lambda: len(told[0].assigned) == len(told[1].assigned) == 1)

    play(scenario)


def test_a_killed_process_says_nothing_more() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        told = [Listener(), Listener()]
        process = cluster.loop.process("w0")
        await process.start(world.consumer(listener=told[0], **SESSION))
        await world.until(lambda: told[0].assigned == {0, 1})
        world.stack.pop_all()  # nobody stops it
        process.kill()
        await asyncio.sleep(0.1)
        assert [one for one in cluster.network.connections if one.client == "w0"] == []
        assert len(cluster.group(world.group).members) == 1
        await asyncio.sleep(7.0)
        assert cluster.group(world.group).state is State.EMPTY

    play(scenario)


# groups and nodes


def test_a_coordinator_that_moves_knows_the_last_generation_that_synced() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        told = Listener()
        consumer = await world.consumer(listener=told, **SESSION)
        await world.until(lambda: told.assigned == {0, 1})
        await consumer.commit({world.at(): 4})
        group = cluster.group(world.group)
        generation, members = group.generation, list(group.members)
        other = 1 + cluster.coordinator(world.group) % 3
        cluster.move_coordinator(world.group, other, load_s=1.0)
        await consumer.commit({world.at(): 5})
        assert (group.generation, list(group.members)) == (generation, members)
        assert group.offsets == {(world.topic, 0): (5, "")}
        assert told.revocations[1:] == [], "nobody has noticed"

    play(scenario, nodes=3)


def test_who_joins_while_the_coordinator_moves_joins_the_next_one() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        told = [Listener(), Listener()]
        await world.consumer(listener=told[0], **SESSION)
        await world.until(lambda: told[0].assigned == {0, 1})
        cluster.faults.once(Api.JOIN_GROUP, Trouble(before_s=2.0), skip=2)  # the first member's, in its rebalance
        await world.consumer(listener=told[1], **SESSION)
        group = cluster.group(world.group)
        await world.until(lambda: group.state is State.PREPARING)
        cluster.move_coordinator(world.group, 1 + cluster.coordinator(world.group) % 3)
        assert (group.state, group.generation) == (State.STABLE, 1)
        await world.until(lambda: len(told[0].assigned) == len(told[1].assigned) == 1)

    play(scenario, nodes=3)


def test_a_node_that_stops_hands_over() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        producer = await world.producer(enable_idempotence=True, request_timeout_ms=5_000)
        consumer = await world.consumer(**SESSION)
        for number in cluster.nodes:
            await producer.send_and_wait(world.topic, b"%d" % number, partition=0)
            cluster.stop_node(number)
            assert (await poll(consumer, 1))[0].value == b"%d" % number
            await producer.send_and_wait(world.topic, b"still", partition=0)
            assert (await poll(consumer, 1))[0].value == b"still"
            cluster.start_node(number)

    play(scenario, nodes=3)


def test_a_leader_that_moves_may_be_told_late() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        producer = await world.producer()
        await producer.send_and_wait(world.topic, b"a", partition=0)
        cluster.move_leader((world.topic, 0), 2, told_after_s=3.0)
        began = cluster.now()
        await producer.send_and_wait(world.topic, b"b", partition=0)
        assert cluster.now() - began > 2.0
        assert values(cluster, world) == [b"a", b"b"]

    play(scenario, nodes=2)


# logs


def test_compaction_leaves_holes_that_a_reader_passes() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        for first in (0, 4, 8):
            cluster.append(world.topic, 0, [b"%d" % number for number in range(first, first + 4)], codec=first // 4)
        cluster.compact((world.topic, 0), [1, 3, 4, 5, 6, 7, 11], keep_empty=True)
        consumer = await world.consumer(group_id=None)
        consumer.assign([world.at()])
        assert [record.offset for record in await poll(consumer, 5)] == [0, 2, 8, 9, 10]
        assert await consumer.position(world.at()) == 12
        assert [batch.count for batch in cluster.log(world.topic).batches] == [2, 0, 3]

    play(scenario)


def test_retention_goes_by_the_time_of_records() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        cluster.create_topic("short", config=TopicConfig(retention_ms=60_000))
        for age in (90_000, 70_000, 10_000):
            cluster.append("short", 0, [b"%d" % age], timestamp=cluster.now_ms() - age)
        cluster.expire()
        assert cluster.log("short").start == 2
        await asyncio.sleep(55)
        cluster.expire()
        assert (cluster.log("short").start, cluster.log("short").end) == (3, 3)

    play(scenario)


def test_transactions_are_written_past_the_protocol_as_well() -> None:
    async def scenario(cluster: Cluster, world: World) -> None:
        for name, commit in (("a", True), ("b", False), ("a", True)):
            transaction = cluster.transaction(name)
            transaction.append(world.topic, 0, [name.encode()])
            transaction.commit() if commit else transaction.abort()
        cluster.transaction("c").append(world.topic, 0, [b"c"])
        assert [(record.offset, record.visible) for _, record in cluster.records(world.topic)] == [
            (0, True),
            (2, False),
            (4, True),
            (6, False),
        ]
        consumer = await world.consumer(group_id=None, isolation_level="read_committed")
        consumer.assign([world.at()])
        assert [record.offset for record in await poll(consumer, 2)] == [0, 4]
        await world.until(lambda: consumer.last_stable_offset(world.at()) == 6)
        await asyncio.sleep(61)  # it is aborted when its time is over
        assert cluster.log(world.topic).stable_end == 8

    play(scenario)
