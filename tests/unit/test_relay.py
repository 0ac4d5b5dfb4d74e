"""The relay, between an outbox in a file and a broker that fails: nothing lost, and each key in its order."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from streamproc import relay as module
from streamproc.adapters.memory import Faults, MemoryBroker, MemoryProducer
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_outbox import SqliteOutbox, add_to_outbox
from streamproc.adapters.store import StoreOptions
from streamproc.errors import BrokerError, RecordRefused, StoreError
from streamproc.model import OutRecord
from streamproc.ports import Waiting
from streamproc.relay import Relay

TOPIC = "events"


class Trouble(Faults):
    """Refuses, once each, what a test names; or all, while it is `down`."""

    def __init__(self) -> None:
        self.refuse: list[bytes] = []
        self.lose: list[bytes] = []
        self.forbid: list[bytes] = []
        self.down = False
        self.asked: list[bytes] = []

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        value = record.value or b""
        self.asked.append(value)
        if value in self.refuse:
            self.refuse.remove(value)
            return BrokerError("NotLeaderForPartition")
        if value in self.forbid:
            return RecordRefused("topic events: InvalidRecordError")
        return BrokerError("down") if self.down else None

    async def after_send(self, record: OutRecord) -> BrokerError | None:
        if record.value in self.lose:
            self.lose.remove(record.value)
            return BrokerError("RequestTimedOut")
        return None


class World:
    """A database with an outbox, a broker, and relays between them."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.outbox = SqliteOutbox(database)
        self.trouble = Trouble()
        self.broker = MemoryBroker(time.time, self.trouble, record_bytes_max=1_000)
        self.broker.create_topic(TOPIC, 1)
        self.producer = MemoryProducer(self.broker)
        self.relay = Relay(self.outbox, self.producer)

    async def write(self, *values: str, key: str | None = None) -> None:
        """Writes events, `a1` with the key `a` unless told."""
        keys = [(value[0] if key is None else key).encode() or None for value in values]
        records = [OutRecord(TOPIC, value.encode(), name) for value, name in zip(values, keys, strict=True)]
        await self.database.run(lambda connection: add_to_outbox(connection, records))

    def published(self) -> list[str]:
        return [(record.value or b"").decode() for record in self.broker.records(TOPIC)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_empty(self) -> None:
        async with asyncio.timeout(20):
            while await self.outbox.count():
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "STAND_BY_S", 0.02)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    (tmp_path / "sqlite").mkdir()
    async with open_sqlite(StoreOptions(url=f"sqlite:///{tmp_path}/a.db"), tmp_path) as database:
        yield World(database)


@asynccontextmanager
async def running(relay: Relay, within_s: float = 5.0) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        await relay.stop(task, within_s)


async def test_what_waits_is_published_in_its_order_and_removed(world: World) -> None:
    values = [f"{key}{n}" for n in range(20) for key in "abc"]
    await world.write(*values)
    async with running(world.relay):
        await world.until_empty()
    assert world.relay.snapshot() == module.OutboxSnapshot(published=60, refused=0, waiting=0, active=False)
    for key in "abc":
        assert [one for one in world.published() if one[0] == key] == [f"{key}{n}" for n in range(20)]


async def test_more_than_a_batch_is_taken_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr(module, "LOOK_S", 60)
    await world.write(*(f"{n:03}" for n in range(50)))
    async with running(world.relay):
        await world.until_empty()
        assert world.published() == [f"{n:03}" for n in range(50)]


async def test_a_kick_wakes_it_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 60)
    async with running(world.relay):
        await world.until(lambda: world.relay.snapshot().active)
        for n in range(3):
            await world.write(f"a{n}")
            world.relay.kick()
            began = time.monotonic()
            await world.until(lambda n=n: len(world.published()) == n + 1)  # type: ignore[misc]
            assert time.monotonic() - began < 5


async def test_what_another_process_wrote_is_found_without_a_kick(world: World) -> None:
    async with running(world.relay):
        await world.until(lambda: world.relay.snapshot().active)
        await world.write("a1")
        await world.until_empty()


@pytest.mark.parametrize("is_lost", [False, True])
async def test_an_event_never_overtakes_one_of_its_key(world: World, is_lost: bool) -> None:
    values = ["a1", "b1", "a2", "b2", "a3", "c1"]
    (world.trouble.lose if is_lost else world.trouble.refuse).extend([b"a1", b"b2", b"a2"])
    await world.write(*values)
    async with running(world.relay):
        await world.until_empty()
    first = list(dict.fromkeys(world.published()))
    for key in "abc":
        assert [one for one in first if one[0] == key] == [one for one in values if one[0] == key]
    assert len(world.published()) == len(values) + (3 if is_lost else 0)


async def test_one_key_that_cannot_be_published_holds_up_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.trouble.refuse.extend([b"a1"] * 1_000)
    await world.write("a1", "b1", "a2", "c1", "a3")
    async with running(world.relay, within_s=0.2):
        await world.until(lambda: len(world.published()) == 2)
        await world.write("d1")
        await world.until(lambda: len(world.published()) == 3)
        assert world.published() == ["b1", "c1", "d1"]
        assert await world.outbox.count() == 3
        assert b"a2" not in world.trouble.asked
    assert caplog.text.count("events wait in the outbox: NotLeaderForPartition") == 1


async def test_events_without_a_key_have_no_order_to_keep(world: World) -> None:
    world.trouble.refuse.append(b"1")
    await world.write("1", "2", "3", key="")
    async with running(world.relay):
        await world.until_empty()
    assert world.published() == ["2", "3", "1"]


async def test_what_is_too_large_is_set_aside_and_the_rest_of_its_key_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.write("a1", "a" * 2_000, "a3", "b1", "b" * 2_000)
    async with running(world.relay):
        await world.until(lambda: len(world.published()) == 3)
        await world.write("a4")
        await world.until(lambda: len(world.published()) == 4)
        assert world.published() == ["a1", "b1", "a3", "a4"]
    assert (world.relay.snapshot().refused, await world.outbox.count()) == (2, 2)
    [first, second] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert first.startswith("event 2 of the outbox (2000 bytes) is never taken: MessageSizeTooLargeError")
    assert "aaaa" not in first + second
    world.broker._record_bytes_max = 10_000
    async with running(Relay(world.outbox, world.producer)):
        await world.until_empty()


async def test_what_the_broker_never_takes_is_set_aside_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.trouble.forbid.append(b"a1")
    await world.write("a1", "a2")
    async with running(world.relay):
        await world.until(lambda: world.published() == ["a2"])
    assert world.trouble.asked.count(b"a1") == 1
    assert (world.relay.snapshot().refused, await world.outbox.count()) == (1, 1)
    assert "event 1 of the outbox (2 bytes) is never taken: topic events: InvalidRecordError" in caplog.text
    world.trouble.forbid.clear()
    async with running(Relay(world.outbox, world.producer)):
        await world.until_empty()


async def test_a_broker_that_is_down_loses_nothing(world: World) -> None:
    world.trouble.down = True
    await world.write("a1", "a2", "b1")
    async with running(world.relay):
        await world.until(lambda: len(world.trouble.asked) > 6)
        assert world.relay.snapshot() == module.OutboxSnapshot(published=0, refused=0, waiting=3, active=True)
        assert world.relay.ready() == "events wait in the outbox: down"
        world.trouble.down = False
        await world.until_empty()
        await world.until(lambda: not world.relay.ready())
    assert sorted(world.published()) == ["a1", "a2", "b1"]


class Unsound:
    """An outbox whose calls fail for a while."""

    def __init__(self, outbox: SqliteOutbox, failures: dict[str, list[Exception]]) -> None:
        self._outbox = outbox
        self.failures = failures
        self.count = outbox.count

    def _may(self, call: str) -> None:
        if self.failures.get(call):
            raise self.failures[call].pop()

    def relay(self) -> AbstractAsyncContextManager[Waiting | None]:
        return self._relay()

    @asynccontextmanager
    async def _relay(self) -> AsyncIterator[Waiting | None]:
        self._may("relay")
        async with self._outbox.relay() as waiting:
            self._waiting = waiting
            yield self

    async def take(self, limit: int) -> Sequence[tuple[int, OutRecord]]:
        self._may("take")
        assert self._waiting is not None
        return await self._waiting.take(limit)

    async def remove(self, numbers: Sequence[int]) -> None:
        self._may("remove")
        assert self._waiting is not None
        await self._waiting.remove(numbers)


@pytest.mark.parametrize("call", ["relay", "take", "remove"])
@pytest.mark.parametrize("error", [StoreError("gone"), ValueError("a row that is none")])
async def test_whatever_fails_it_starts_again(
    world: World, call: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    relay = Relay(Unsound(world.outbox, {call: [error] * 3}), world.producer)
    await world.write("a1", "a2")
    async with running(relay) as task:
        await world.until_empty()
        assert not task.done()
        await world.until(lambda: relay.snapshot().active)
        await world.until(lambda: not relay.ready())
    assert list(dict.fromkeys(world.published())) == ["a1", "a2"]
    expected = "the outbox cannot be read: gone" if isinstance(error, StoreError) else "the relay failed and starts"
    assert caplog.text.count(expected) == 1


async def test_an_outbox_that_cannot_be_read_makes_it_unready_until_it_can(world: World) -> None:
    failures: dict[str, list[Exception]] = {"relay": [StoreError("gone")] * 1_000}
    relay = Relay(Unsound(world.outbox, failures), world.producer)
    async with running(relay):
        await world.until(lambda: relay.ready() == "the outbox cannot be read: gone")
        failures.clear()
        await world.until(lambda: not relay.ready())


async def test_only_one_relay_publishes_and_the_next_takes_over(world: World) -> None:
    second = Relay(world.outbox, world.producer)
    async with running(second):
        async with running(world.relay):
            await world.until(lambda: world.relay.snapshot().active or second.snapshot().active)
            for n in range(30):
                await world.write(f"a{n:02}")
                world.relay.kick()
                second.kick()
                assert (world.relay.snapshot().active, second.snapshot().active) in ((True, False), (False, True))
            await world.until_empty()
        await world.write("b1")
        await world.until_empty()
        assert second.snapshot().active
    assert world.published() == [*(f"a{n:02}" for n in range(30)), "b1"]


async def test_stop_publishes_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 60)
    async with running(world.relay) as task:
        await world.until(lambda: world.relay.snapshot().active)
        await world.write(*(f"a{n}" for n in range(5)))
    assert (task.done(), await world.outbox.count(), len(world.published())) == (True, 0, 5)


async def test_stop_waits_no_longer_than_it_may_and_leaves_the_rest_to_the_next(world: World) -> None:
    world.trouble.down = True
    await world.write("a1")
    began = time.monotonic()
    async with running(world.relay, within_s=0.2) as task:
        await world.until(lambda: world.trouble.asked != [])
    assert time.monotonic() - began < 3
    assert (task.cancelled(), await world.outbox.count(), world.relay.snapshot().active) == (True, 1, False)
    world.trouble.down = False
    async with running(Relay(world.outbox, world.producer)):
        await world.until_empty()
