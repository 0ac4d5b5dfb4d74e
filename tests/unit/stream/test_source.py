import asyncio
from collections.abc import Collection, Sequence

import pytest

from streamproc.adapters.memory import MemoryBroker, MemoryConsumer
from streamproc.core.engine import Engine
from streamproc.core.plan import Limits
from streamproc.errors import BrokerError
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition
from streamproc.stream.source import Source
from tests.unit.core.build import P0, P1, batch, plan, routed
from tests.unit.stream.rig import virtual

Polled = Sequence[RecordBatch | PartitionStopped]


class Scripted(MemoryConsumer):
    """Polls bring what a list says; then nothing."""

    def __init__(self, polls: Sequence[Polled]) -> None:
        super().__init__(MemoryBroker(lambda: 0.0), group="test", topics=[])
        self._polls = list(polls)
        self.asked: list[tuple[list[TopicPartition], float]] = []
        self.sought: list[tuple[TopicPartition, int]] = []

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        self.sought.append((partition, offset))

    async def poll(self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int) -> Polled:
        """See the port."""
        self.asked.append((list(partitions), timeout_s))
        await asyncio.sleep(timeout_s)
        return self._polls.pop(0) if self._polls else []


async def play(
    polls: Sequence[Polled], engine: Engine, *, for_s: float = 5.0, holds: bool = True
) -> tuple[Scripted, list[RecordBatch]]:
    """What is taken in; a batch that ends at 99 is followed by a rebalance, after which P0 starts at 0."""
    taken: list[RecordBatch] = []

    def admit(raw: RecordBatch) -> None:
        taken.append(raw)
        engine.admit(routed(raw), 0.0)
        if raw.next_offset == 99:
            engine.assign({P0: 0})

    consumer = Scripted(polls)
    loop = asyncio.get_running_loop()
    source = Source(consumer, engine, admit=admit, now=loop.time, holds=lambda: holds)
    running = asyncio.ensure_future(source.run())
    await asyncio.sleep(for_s)
    source.stopping = True
    await running
    return consumer, taken


def made(*partitions: TopicPartition) -> Engine:
    engine = Engine([plan()], Limits(), lambda: 0.5, lambda: 0.0)
    engine.assign(dict.fromkeys(partitions, 0))
    return engine


@virtual
async def test_what_a_poll_brings_is_taken_in_one_by_one() -> None:
    first, second, third = batch([0]), batch([0], partition=P1), batch([1])
    _, taken = await play([[first, second], [], [third]], made(P0, P1))
    assert taken == [first, second, third]


@virtual
async def test_the_rest_of_a_poll_is_of_no_use_after_a_rebalance() -> None:
    """Its partitions begin anew, at what is committed."""
    last = batch([98], start=0)
    consumer, taken = await play([[last, batch([99])], [batch([0])]], made(P0))
    assert [raw.next_offset for raw in taken] == [99, 1]
    assert consumer.sought == [(P0, 0)]


@virtual
async def test_what_does_not_start_where_its_partition_stands_is_read_again() -> None:
    engine = made(P0)
    consumer, taken = await play([[batch([0])], [batch([5]), batch([6])], [batch([1])]], engine)
    assert [raw.next_offset for raw in taken] == [1, 2]
    assert consumer.sought == [(P0, 1), (P0, 1)]
    assert engine.snapshot().rereads == 2


@virtual
async def test_what_belongs_to_a_partition_that_is_given_up_is_left_to_its_next_owner() -> None:
    engine = made(P0, P1)
    engine.drain([P0])
    consumer, taken = await play([[batch([0]), batch([0], partition=P1)]], engine)
    assert [raw.partition for raw in taken] == [P1]
    assert consumer.sought == []


@virtual
async def test_nothing_is_read_once_the_group_may_have_given_the_partitions_away() -> None:
    consumer, taken = await play([[batch([0])]], made(P0), holds=False)
    assert taken == []
    assert {tuple(partitions) for partitions, _ in consumer.asked} == {()}


@virtual
async def test_polls_are_short_while_partitions_are_held_back() -> None:
    engine = made(P0, P1)
    engine.stop(PartitionStopped(P1, "unreadable_batch", "broken"), 0.0)
    consumer, _ = await play([], engine)
    assert {(tuple(partitions), timeout_s) for partitions, timeout_s in consumer.asked} == {((P0,), 0.02)}


@virtual
async def test_a_stopped_partition_is_read_again_from_where_it_stands_after_a_while() -> None:
    stop = PartitionStopped(P0, "offset_out_of_range", "gone")
    consumer, _ = await play([[batch([0])], [stop]], made(P0, P1), for_s=25.0)
    assert consumer.asked[1][0] == [P0, P1]
    assert {tuple(partitions) for partitions, _ in consumer.asked[2:]} == {(P1,)}
    consumer, _ = await play([[batch([0])], [stop], *[[]] * 4_000], made(P0, P1), for_s=40.0)
    assert consumer.asked[-1][0] == [P0, P1]
    assert consumer.sought == [(P0, 1)]


@virtual
async def test_a_member_without_partitions_polls_once_a_second() -> None:
    consumer, _ = await play([], made(), for_s=10.0)
    assert {tuple(partitions) for partitions, _ in consumer.asked} == {()}
    assert 9 <= len(consumer.asked) <= 11


@virtual
async def test_an_error_of_the_group_ends_it() -> None:
    class Broken(Scripted):
        async def poll(self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int) -> Polled:
            raise BrokerError("the group cannot go on")

    source = Source(Broken([]), made(P0), admit=lambda raw: None, now=lambda: 0.0, holds=lambda: True)
    with pytest.raises(BrokerError, match="cannot go on"):
        await source.run()
