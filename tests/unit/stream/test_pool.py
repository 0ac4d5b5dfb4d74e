import asyncio
from typing import Any

import pytest

from streamproc import Stream, virtualtime
from streamproc.adapters.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from streamproc.errors import BrokerError
from streamproc.model import OutRecord
from streamproc.ports import RebalanceListener
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.stream.pool import Pool
from streamproc.testing import EPOCH, NoObserver, envelope
from tests.unit.stream.rig import TOPIC, Ping, virtual


class Fragile(MemoryConsumer):
    """Breaks when told to."""

    broken = False

    async def poll(self, *arguments: Any, **named: Any) -> Any:
        """See the port."""
        if self.broken:
            raise BrokerError("the group cannot go on")
        return await super().poll(*arguments, **named)


async def slow(event: Ping, ctx: Any) -> None:
    await asyncio.sleep(2.0)


def made(broker: MemoryBroker, consumer: MemoryConsumer) -> Pipeline:
    loop = asyncio.get_running_loop()
    around = Surroundings(
        consumer=consumer,
        producer=MemoryProducer(broker),
        observer=NoObserver(),
        services=None,
        group="test",
        now=lambda: EPOCH + loop.time(),
        tick=virtualtime.tick,
        wall=lambda: EPOCH + loop.time(),
    )
    return Pipeline([Stream(Ping, slow)], StreamOptions(topics=[TOPIC], commit_interval_s=60.0), around)


def two() -> tuple[MemoryBroker, list[Fragile], Pool]:
    """Two pipelines with a partition and a record each."""
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(lambda: EPOCH + loop.time())
    broker.create_topic(TOPIC, 2)
    for partition in range(2):
        broker.append(OutRecord(TOPIC, envelope(Ping(partition)), partition=partition))
    consumers = [Fragile(broker, group="test", topics=[TOPIC]) for _ in range(2)]
    return broker, consumers, Pool([made(broker, consumer) for consumer in consumers])


def in_flight(pool: Pool) -> int:
    return sum(function.in_flight for snapshot in pool.snapshots() for function in snapshot.functions)


def ignore(_error: BaseException) -> None:
    raise AssertionError("nothing fails here")


async def both_begun(pool: Pool) -> None:
    async with asyncio.timeout(60):
        while in_flight(pool) < 2:
            await asyncio.sleep(0.01)


@virtual
async def test_all_drain_when_told_to_stop() -> None:
    broker, _, pool = two()
    stop = asyncio.Event()
    running = asyncio.ensure_future(pool.run(stop, 25.0, ignore))
    await both_begun(pool)
    stop.set()
    assert await running
    assert sorted(broker.group("test").committed.values()) == [1, 1]


@virtual
async def test_a_grace_that_is_too_short_is_reported() -> None:
    _, _, pool = two()
    stop = asyncio.Event()
    running = asyncio.ensure_future(pool.run(stop, 0.5, ignore))
    await both_begun(pool)
    assert pool.calling() == ["slow (1)", "slow (1)"]
    stop.set()
    assert not await running
    assert pool.calling() == ["slow (1)", "slow (1)"]


@virtual
async def test_when_one_breaks_the_other_drains_and_the_cause_is_raised() -> None:
    broker, consumers, pool = two()
    stop, told = asyncio.Event(), list[str]()

    def failed(error: BaseException) -> None:
        told.append(f"{error}, {in_flight(pool)} in flight")
        stop.set()

    running = asyncio.ensure_future(pool.run(stop, 25.0, failed))
    await both_begun(pool)
    consumers[0].broken = True
    with pytest.raises(BrokerError, match="cannot go on"):
        await running
    assert told == ["the group cannot go on, 1 in flight"]
    assert sorted(broker.group("test").committed.values()) == [0, 1]
    assert broker.group("test").members == []


class Away(MemoryConsumer):
    """Waits for ever for its broker."""

    async def start(self, listener: RebalanceListener) -> None:
        """See the port."""
        await asyncio.Event().wait()


@virtual
async def test_what_still_connects_is_not_waited_for() -> None:
    broker, consumers, _ = two()
    away = Away(broker, group="test", topics=[TOPIC])
    pool = Pool([made(broker, away), made(broker, consumers[0])])
    stop = asyncio.Event()
    running = asyncio.ensure_future(pool.run(stop, 25.0, ignore))
    async with asyncio.timeout(60):
        while in_flight(pool) < 1:
            await asyncio.sleep(0.01)
    stop.set()
    async with asyncio.timeout(20):
        assert await running
