"""How a pipeline begins, gives up partitions, and ends."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from streamproc import Reject, Stream
from streamproc.adapters.memory import Faults, MemoryConsumer
from streamproc.errors import BrokerError, ConfigError
from streamproc.model import OutRecord, PartitionStopped, RecordBatch, TopicPartition
from streamproc.stream.source import KEEPALIVE_S
from tests.unit.stream.rig import P0, Ping, Rig, rig, virtual


async def take(event: Ping, ctx: Any) -> None:
    pass


def in_flight(made: Rig) -> int:
    return made.pipeline.snapshot().functions[0].in_flight


@virtual
async def test_an_idle_pipeline_ends_at_once() -> None:
    async with rig(Stream(Ping, take)) as made:
        await made.until(lambda: bool(made.consumer.positions))
        began = asyncio.get_running_loop().time()
        assert await made.pipeline.stop(25.0)
        await made.running
        assert asyncio.get_running_loop().time() - began < 0.1
        assert made.group.members == []


@virtual
async def test_the_end_waits_for_calls_and_repeats_nothing() -> None:
    async def slow(event: Ping, ctx: Any) -> None:
        await asyncio.sleep(5.0)

    async with rig(Stream(Ping, slow), commit_interval_s=60.0) as made:
        made.put(*range(3))
        await made.until(lambda: in_flight(made) == 1)
        assert await made.pipeline.stop(25.0)
        assert made.committed == 1


@virtual
async def test_what_runs_over_the_grace_is_delivered_again() -> None:
    async def hangs(event: Ping, ctx: Any) -> None:
        await asyncio.sleep(1_000.0 if event.n == 1 else 0.0)

    async with rig(Stream(Ping, hangs), commit_interval_s=60.0) as made:
        for number in range(3):
            made.put(number, key=b"k%d" % number)
        await made.until(lambda: made.handled == 2)
        assert not await made.pipeline.stop(3.0)
        await made.running
        assert made.committed == 1


class Away(Faults):
    """Kafka takes no commit, and no dead letter."""

    async def before_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        raise BrokerError("away")

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        return BrokerError("away")


@pytest.mark.parametrize("fails", [False, True], ids=["commits", "dead letters"])
def test_the_end_tells_what_is_handled_again(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: Ping, ctx: Any) -> Reject | None:
        return Reject("refused", "") if fails else None

    @virtual
    async def played() -> None:
        async with rig(Stream(Ping, handler), faults=Away()) as made:
            made.put(0, 1, 2)
            await asyncio.sleep(5.0)
            await made.pipeline.stop(1.0)
            await made.running

    played()
    told = [one.getMessage() for one in caplog.records if "handled again" in one.getMessage()]
    assert told == ["finished records could not be committed, and are handled again: events/0 from 0 to 2"]


@virtual
async def test_a_topic_that_no_function_takes_events_of_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no function takes events of it"):
        async with rig(Stream(Ping, take, topic="other")):
            pass


@virtual
async def test_an_error_of_the_consumer_ends_the_pipeline() -> None:
    class Broken(MemoryConsumer):
        async def poll(
            self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
        ) -> Sequence[RecordBatch | PartitionStopped]:
            raise BrokerError("the group cannot go on")

    async with rig(Stream(Ping, take)) as made:
        broken = Broken(made.broker, group="test", topics=made.consumer.topics)
        made.pipeline._source._consumer = broken
        await asyncio.wait([made.running], timeout=60.0)
        with pytest.raises(BrokerError, match="cannot go on"):
            await made.running
        assert made.group.members == []


@virtual
async def test_the_end_of_a_broken_pipeline_ends_calls_that_swallow_their_cancellation() -> None:
    async def rude(event: Ping, ctx: Any) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            return

    async with rig(Stream(Ping, rude, timeout_s=80_000)) as made:
        made.put(1)
        await made.until(lambda: in_flight(made) == 1)
        made.running.cancel()
        done, _ = await asyncio.wait([made.running], timeout=60.0)
        assert done


@virtual
async def test_a_partition_that_cannot_be_read_on_is_left_alone() -> None:
    async with rig(Stream(Ping, take)) as made:
        made.put(1)
        await made.until(lambda: made.committed == 1)
        made.consumer.positions[P0] = 99
        await made.until(lambda: made.pipeline.snapshot().partitions[0].blocked == "offset_out_of_range")
        assert made.pipeline.engine.wanted() == []


@virtual
async def test_a_member_that_wants_nothing_still_polls() -> None:
    polls: list[int] = []

    class Counting(MemoryConsumer):
        async def poll(
            self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
        ) -> Sequence[RecordBatch | PartitionStopped]:
            polls.append(len(partitions))
            return await super().poll(partitions, timeout_s, max_bytes=max_bytes)

    async def hangs(event: Ping, ctx: Any) -> None:
        await asyncio.sleep(10 * KEEPALIVE_S)

    async with rig(Stream(Ping, hangs), partition_records_max=1) as made:
        counting = Counting(made.broker, group="test", topics=made.consumer.topics)
        counting.positions = made.consumer.positions
        made.put(1)
        await made.until(lambda: in_flight(made) == 1)
        made.pipeline._source._consumer = counting
        await asyncio.sleep(5 * KEEPALIVE_S)
        assert 4 <= polls.count(0) <= 6
        assert set(polls) == {0}


@virtual
async def test_a_rebalance_repeats_nothing_that_finished() -> None:
    seen: list[int] = []

    async def slow(event: Ping, ctx: Any) -> Reject | None:
        await asyncio.sleep(0.3 if event.n % 3 else 0.0)
        seen.append(event.n)
        return Reject("bad") if event.n % 4 == 0 else None

    async with rig(Stream(Ping, slow, concurrency=5), commit_interval_s=60.0) as made:
        for number in range(30):
            made.put(number, key=b"k%d" % (number % 7))
        while made.committed < 30:
            await made.group.rebalance()
            await asyncio.sleep(0.4)
        assert sorted(seen) == list(range(30))
        assert len(made.dead()) == 8


@virtual
async def test_a_partition_that_comes_back_waits_for_the_old_call_of_a_key() -> None:
    running = 0
    most = 0

    async def slow(event: Ping, ctx: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(10.0)
        running -= 1

    async with rig(Stream(Ping, slow), drain_s=1.0) as made:
        made.put(1, 2)
        await made.until(lambda: in_flight(made) == 1)
        await made.group.rebalance()
        assert made.pipeline.snapshot().partitions[0].epoch == 2
        await made.until(lambda: made.committed == 2)
        assert most == 1
