"""What goes over the wire to PostgreSQL; where it is cut: exactly one effect, after the call was repeated."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import msgspec
import pytest

from handlers.stores.opening import open_stores
from streamproc.errors import LegEnded, StoreError
from streamproc.model import OutRecord
from tests.contract.stores import EVENT, LATER, Store, delivery, leg, order, reading, user
from tests.contract.test_stores_readings import RULE
from tests.postgres import Shop
from tests.tcp_proxy import Moment, Proxy, proxy

MOMENTS: list[Moment] = ["before", "after"]
STOCK = "SELECT quantity FROM stock ORDER BY sku"


@pytest.fixture
async def wire(postgres_shop: Shop) -> AsyncIterator[Proxy]:
    await postgres_shop.empty()
    async with proxy(postgres_shop.postgres.host, postgres_shop.postgres.port) as made:
        yield made


@pytest.fixture
async def store(postgres_shop: Shop, wire: Proxy) -> AsyncIterator[Store]:
    url = postgres_shop.app.url.replace(f":{postgres_shop.postgres.port}/", f":{wire.port}/")
    async with open_stores(msgspec.structs.replace(postgres_shop.app, url=url)) as stores:
        yield Store(stores, postgres_shop.query)


async def test_a_row_and_its_event_cost_one_round_trip(store: Store, wire: Proxy) -> None:
    await store.stores.stock.add({"a": 10})
    for n in (1, 2):  # the first prepares its statements
        wire.requests = 0
        await store.stores.users.create(user(f"u-{n}", f"{n}"), EVENT)
        await store.stores.orders.place(order(f"o-{n}", a=1), EVENT)
    assert wire.requests == 2
    for n in (1, 2):
        wire.requests = 0
        await store.stores.orders.accept(order(f"o-{n}", a=1), delivery(f"e-{n}"), leg("validate", run=f"o-{n}"))
        await store.stores.stock.take(order(f"o-{n}", a=1), leg(run=f"o-{n}"), LATER)
        await store.stores.journal.write(leg("payment", run=f"o-{n}"))
    assert wire.requests == 3


async def test_orders_at_once_are_at_no_deadlock_whatever_the_plan(postgres_shop: Shop) -> None:
    await postgres_shop.empty()
    role, skus = postgres_shop.app.url.split("//")[1].split("@")[0], [f"s-{n}" for n in range(6)]
    joins = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")
    for join in joins:  # so that rows are looked up in the order in which the order names them
        await postgres_shop.query(f"ALTER ROLE {role} SET {join} = off")
    try:
        async with open_stores(postgres_shop.app) as stores:
            await stores.stock.add(dict.fromkeys(skus, 1_000))
            orders = [order(f"o-{n}", **dict.fromkeys(skus if n % 2 else skus[::-1], 1)) for n in range(100)]
            await asyncio.gather(*(stores.stock.take(one, leg(run=one.order_id), LATER) for one in orders))
    finally:
        await postgres_shop.query(f"ALTER ROLE {role} RESET ALL")
    assert await postgres_shop.query(STOCK) == [(900,)] * 6


@pytest.mark.parametrize("moment", MOMENTS)
async def test_stock_is_taken_once_when_the_statement_is_cut(store: Store, wire: Proxy, moment: Moment) -> None:
    await store.stores.stock.add({"a": 10})
    wire.cut(moment, b"order/o-1")
    with pytest.raises(LegEnded) if moment == "after" else nullcontext():
        await store.stores.stock.take(order(a=3), leg(), LATER)
    assert wire.cuts == 1
    assert await store.query(STOCK) == [(7,)]
    assert [one.state for one in await store.stores.journal.read("order/o-1")] == ["done"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_stock_is_given_back_once_when_the_commit_is_cut(store: Store, wire: Proxy, moment: Moment) -> None:
    await store.stores.stock.add({"a": 10})
    await store.stores.orders.accept(order(a=3), delivery("e-1"), leg("validate"))
    await store.stores.stock.take(order(a=3), leg(), LATER)
    wire.cut(moment, b"COMMIT")
    with pytest.raises(StoreError, match=r"^PostgreSQL: .*connection was closed"):
        await store.stores.stock.give_back(order(a=3), leg(state="undone"))
    assert wire.cuts == 1
    assert await store.query(STOCK) == [(10 if moment == "after" else 7,)]
    with pytest.raises(LegEnded) if moment == "after" else nullcontext():
        await store.stores.stock.give_back(order(a=3), leg(state="undone"))
    assert await store.query(STOCK) == [(10,)]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_statement_that_is_cut_is_repeated_at_once(store: Store, wire: Proxy, moment: Moment) -> None:
    cut = user("u-to-be-cut")
    wire.cut(moment, cut.user_id.encode())
    assert await store.stores.users.create(cut, EVENT) == cut
    assert wire.cuts == 1
    assert await store.query("SELECT count(*) FROM users") == [(1,)]
    assert await store.stores.outbox.count() == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_statement_that_is_cut_again_is_told_and_may_be_repeated(
    store: Store, wire: Proxy, moment: Moment
) -> None:
    placed = order("o-to-be-cut", a=1)
    wire.cut(moment, placed.order_id.encode(), times=2)
    with pytest.raises(StoreError):
        await store.stores.orders.place(placed, EVENT)
    assert wire.cuts == 2
    stored = await store.stores.orders.place(replace(placed), EVENT)
    assert (stored.quantities, stored.taken_at) == ({"a": 1}, None)
    assert await store.query("SELECT order_id, quantity FROM order_items") == [(placed.order_id, 1)]
    assert await store.stores.outbox.count() == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_readings_are_stored_once_when_their_batch_is_cut(store: Store, wire: Proxy, moment: Moment) -> None:
    batch = [reading(f"e-{n}")._replace(sensor_id=f"s-{n}") for n in range(3)]
    wire.cut(moment, b"e-2")
    assert not await store.stores.readings.upsert(batch, RULE)
    deliveries = 2 if moment == "after" else 1
    assert await store.query("SELECT temperature, deliveries FROM readings") == [(20.5, deliveries)] * 3


@pytest.mark.parametrize("moment", MOMENTS)
async def test_readings_and_their_alert_are_stored_whole_or_not_at_all(
    store: Store, wire: Proxy, moment: Moment
) -> None:
    batch = [reading("e-1"), reading("e-1", 3.0), reading("e-2")._replace(sensor_id="s-2", temperature=31.0)]
    wire.cut(moment, b"COMMIT")
    with pytest.raises(StoreError):
        await store.stores.readings.upsert(batch, RULE)
    done = moment == "after"
    assert await store.query("SELECT count(*) FROM readings") == [(2 if done else 0,)]
    assert await store.stores.outbox.count() == done
    assert set(await store.stores.readings.upsert(batch, RULE)) == {1}
    assert await store.query("SELECT count(*) FROM alerts") == [(1,)]
    assert await store.stores.outbox.count() == 1


async def test_a_record_that_is_cut_is_repeated(store: Store, wire: Proxy) -> None:
    wire.cut("after", b"f/events")
    assert await store.stores.processed.claim(delivery("e-1"))
    await store.stores.processed.record(delivery("e-1"))
    assert not await store.stores.processed.claim(delivery("e-1"))


async def test_what_was_published_and_not_removed_comes_again(store: Store, wire: Proxy) -> None:
    await store.stores.users.create(user(), EVENT)
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        ((number, _),) = await waiting.take(10)
        wire.cut("before", number.to_bytes(8, "big"))
        with pytest.raises(StoreError):
            await waiting.remove([number])
        with pytest.raises(StoreError):
            await waiting.take(10)
    assert [record for _, record in await taken_by_the_next(store)] == [EVENT]


async def taken_by_the_next(store: Store) -> Sequence[tuple[int, OutRecord]]:
    """What the next relay takes, as soon as the server noticed that the one before is gone."""
    async with asyncio.timeout(10):
        while True:
            async with store.stores.outbox.relay() as waiting:
                if waiting is not None:
                    return await waiting.take(10)
