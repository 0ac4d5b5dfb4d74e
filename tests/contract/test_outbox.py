"""The outbox, whatever database is behind it."""

import asyncio
import sys
import uuid

import msgspec
import pytest

from handlers.stores.opening import open_stores
from streamproc.model import OutRecord
from streamproc.ports import Waiting
from tests.contract.stores import EVENT, Store, World, order, user


async def write(store: Store, *records: OutRecord) -> None:
    for record in records:
        name = uuid.uuid4().hex
        assert await store.stores.users.create(user(name, name), record) is not None


@pytest.mark.parametrize(
    "record",
    [
        EVENT,
        OutRecord("t", b""),
        OutRecord("t", None, b""),
        OutRecord("t", bytes(range(256)), b"\0\xff", (("\u00e9", bytes(range(256))), ("", None))),
        OutRecord("t", b"v" * 900_000, b"k", (("h", b"h" * 100_000),) * 3),
    ],
    ids=["whole", "bare", "tombstone", "bytes", "large"],
)
async def test_a_record_comes_back_as_it_was(store: Store, record: OutRecord) -> None:
    await write(store, record)
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        ((_, found),) = await waiting.take(10)
        assert found == record


async def test_events_wait_in_order_until_they_are_removed(store: Store) -> None:
    await write(store, *(OutRecord("t", b"%d" % n) for n in range(5)))
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        first = await waiting.take(3)
        assert [record.value for _, record in first] == [b"0", b"1", b"2"]
        assert await waiting.take(3) == first
        await waiting.remove([number for number, _ in first[:2]])
        assert await store.stores.outbox.count() == 3
        assert [record.value for _, record in await waiting.take(9)] == [b"2", b"3", b"4"]
        await waiting.remove([number for number, _ in await waiting.take(9)])
        assert list(await waiting.take(9)) == []
        await waiting.remove([])
    assert await store.stores.outbox.count() == 0


async def test_a_number_is_not_used_again(store: Store) -> None:
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        numbers = []
        for n in range(3):
            await write(store, OutRecord("t", b"%d" % n))
            ((number, _),) = await waiting.take(1)
            await waiting.remove([number])
            numbers.append(number)
        assert numbers == sorted(set(numbers))


async def test_an_order_waits_with_its_user(store: Store) -> None:
    await store.stores.users.create(user(), EVENT)
    await store.stores.orders.place(order(a=1), OutRecord("orders", b"{}"))
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        assert [record.topic for _, record in await waiting.take(9)] == ["events", "orders"]


async def test_one_relay_at_a_time_may_publish(store: Store, world: World) -> None:
    async with open_stores(world.options) as others:
        async with store.stores.outbox.relay() as first:
            assert first is not None
            for outbox in (store.stores.outbox, others.outbox):
                async with outbox.relay() as second:
                    assert second is None
            assert list(await first.take(1)) == []
        async with others.outbox.relay() as next_one:
            assert next_one is not None


async def test_the_right_is_free_after_an_error(store: Store) -> None:
    async def publish(waiting: Waiting | None) -> None:
        assert waiting is not None
        raise ValueError("the broker is gone")

    for _ in range(3):
        with pytest.raises(ValueError, match="gone"):
            async with store.stores.outbox.relay() as waiting:
                await publish(waiting)


async def test_the_right_is_free_after_a_cancellation(store: Store) -> None:
    reached = asyncio.Event()

    async def hold() -> None:
        async with store.stores.outbox.relay():
            reached.set()
            await asyncio.Event().wait()

    holding = asyncio.ensure_future(hold())
    await reached.wait()
    holding.cancel()
    await asyncio.wait([holding])
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None


HOLD = """
import asyncio, sys
import msgspec
from handlers.stores.opening import open_stores
from streamproc.adapters.store import StoreOptions
async def main():
    async with open_stores(msgspec.json.decode(sys.argv[1], type=StoreOptions)) as stores:
        async with stores.outbox.relay() as waiting:
            print("holds" if waiting else "does not", flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_right_is_free_when_its_process_was_killed(store: Store, world: World) -> None:
    command = [sys.executable, "-c", HOLD, msgspec.json.encode(world.options).decode()]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"holds\n"
    async with store.stores.outbox.relay() as waiting:
        assert waiting is None
    process.kill()
    await process.wait()
    async with asyncio.timeout(10):
        while not await gets_the_right(store):
            await asyncio.sleep(0.01)


async def gets_the_right(store: Store) -> bool:
    async with store.stores.outbox.relay() as waiting:
        return waiting is not None


async def test_writers_do_not_wait_for_the_relay(store: Store) -> None:
    async with asyncio.timeout(10), store.stores.outbox.relay() as waiting:
        assert waiting is not None
        await asyncio.gather(*(store.stores.users.create(user(f"{n}", f"{n}"), EVENT) for n in range(50)))
        assert len(await waiting.take(100)) == 50
