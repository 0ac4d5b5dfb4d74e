"""Orders and the stock they take, whatever database is behind them."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from handlers.stores.orders import Order, StoredOrder
from handlers.stores.processed import Refused
from streamproc.errors import LegEnded, StoreError
from tests.contract.stores import EVENT, LATER, ONE, OTHER, Store, delivery, leg, order, refusal

STOCK = "SELECT sku, quantity FROM stock ORDER BY sku"
LEFT = "SELECT quantity FROM stock ORDER BY sku"


def stored(placed: Order, taken: bool = False) -> StoredOrder:
    quantities = dict(placed.quantities)
    return StoredOrder(placed.order_id, placed.user_id, quantities, placed.placed_at, LATER if taken else None)


async def accept(store: Store, wanted: Order) -> None:
    this = delivery(wanted.order_id[:900])
    await store.stores.orders.accept(wanted, this, leg("validate", run=wanted.order_id[:900]))


async def take(store: Store, wanted: Order) -> None:
    await accept(store, wanted)
    await store.stores.stock.take(wanted, leg(run=wanted.order_id), LATER)


def ended(results: list[BaseException | None]) -> list[int]:
    """How many calls found that the leg had ended, and how many ended it."""
    return [sum(isinstance(one, LegEnded) for one in results), results.count(None)]


async def test_an_order_is_placed_with_its_event(store: Store) -> None:
    placed = order("o-'1", "u-ö", **{"b": 10, "a": 3, "☃ '": 1_000_000_000_000})
    assert await store.stores.orders.find(placed.order_id) is None
    assert await store.stores.orders.place(placed, EVENT) == stored(placed)
    assert await store.stores.orders.find(placed.order_id) == stored(placed)
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        assert [record for _, record in await waiting.take(10)] == [EVENT]


async def test_an_order_that_exists_is_answered_with_what_is_stored(store: Store) -> None:
    await store.stores.orders.place(order(a=3), EVENT)
    for again in (order(a=3), order(a=4), order(a=3, b=1), order(user_id="u-2", a=3)):
        assert await store.stores.orders.place(replace(again, placed_at=LATER), EVENT) == stored(order(a=3))
    assert await store.stores.orders.find("o-1") == stored(order(a=3))
    assert await store.stores.outbox.count() == 1


async def test_one_of_many_at_once_places_the_order(store: Store) -> None:
    asked = [order(user_id=f"u-{n}", a=n + 1) for n in range(20)]
    answers = await asyncio.gather(*(store.stores.orders.place(one, EVENT) for one in asked))
    assert all(answer == answers[0] for answer in answers)
    assert await store.stores.orders.find("o-1") == answers[0]
    assert await store.stores.outbox.count() == 1


async def test_an_order_of_the_stream_is_accepted_and_its_stock_taken(store: Store) -> None:
    await store.stores.stock.add({"a": 10, "b": 10})
    await take(store, order(a=3, b=10))
    assert await store.query(STOCK) == [("a", 7), ("b", 0)]
    assert await store.stores.orders.find("o-1") == stored(order(a=3, b=10), taken=True)
    assert [one.leg for one in await store.stores.journal.read("order/o-1")] == ["inventory", "validate"]


async def test_an_order_that_was_placed_is_accepted_and_its_stock_taken(store: Store) -> None:
    await store.stores.stock.add({"a": 10, "b": 10})
    await store.stores.orders.place(order(a=3, b=1), EVENT)
    await take(store, replace(order(b=1, a=3), placed_at=LATER))
    assert await store.query(LEFT) == [(7,), (9,)]
    assert await store.stores.orders.find("o-1") == stored(order(a=3, b=1), taken=True)
    assert await store.stores.orders.place(order(a=3, b=1), EVENT) == stored(order(a=3, b=1), taken=True)


async def test_prices_are_known_of_what_exists(store: Store) -> None:
    await store.stores.stock.add({"a": 1, "☃": 0}, price=250)
    await store.stores.stock.add({"b": 1})
    assert await store.stores.stock.prices(["a", "b", "☃", "z", "\0"]) == {"a": 250, "☃": 250, "b": 1_000}
    assert await store.stores.stock.prices([]) == {}


@pytest.mark.parametrize(
    ("short", "reason", "detail"),
    [
        ({"b": 11}, "out_of_stock", "sku 'b': 11 ordered, 10 left"),
        ({"z": 1}, "unknown_sku", "sku 'z' is not in stock"),
        ({"z": 1, "b": 11}, "unknown_sku", "sku 'z' is not in stock"),
        ({"b": 11, "z": 1}, "out_of_stock", "sku 'b': 11 ordered, 10 left"),
        ({"b": 10, "c": 11}, "out_of_stock", "sku 'c': 11 ordered, 10 left"),
    ],
)
async def test_all_or_nothing_is_taken(store: Store, short: Mapping[str, int], reason: str, detail: str) -> None:
    await store.stores.stock.add({"a": 10, "b": 10, "c": 10})
    wanted = order(a=3, **short)
    with pytest.raises(Refused) as caught:
        await take(store, wanted)
    assert (caught.value.outcome.reason, caught.value.outcome.detail) == (reason, detail)
    assert await store.query(LEFT) == [(10,)] * 3
    assert await store.stores.orders.find("o-1") == stored(wanted)
    assert [one.leg for one in await store.stores.journal.read("order/o-1")] == ["validate"]


async def test_stock_is_taken_once_whatever_the_number_of_calls(store: Store) -> None:
    await store.stores.stock.add({"a": 4})
    await accept(store, order(a=3))
    taking = (store.stores.stock.take(order(a=3), leg(), LATER) for _ in range(5))
    assert ended(await asyncio.gather(*taking, return_exceptions=True)) == [4, 1]
    assert await store.query(LEFT) == [(1,)]


async def test_what_was_taken_is_given_back_once(store: Store) -> None:
    await store.stores.stock.add({"a": 10, "b": 1})
    await take(store, order(a=3, b=1))
    back = (store.stores.stock.give_back(order(a=3, b=1), leg(state="undone")) for _ in range(5))
    assert ended(await asyncio.gather(*back, return_exceptions=True)) == [4, 1]
    assert await store.query(LEFT) == [(10,), (1,)]
    assert await store.stores.orders.find("o-1") == stored(order(a=3, b=1))


async def test_what_was_not_taken_is_not_given_back_and_cannot_be_taken_later(store: Store) -> None:
    await store.stores.stock.add({"a": 10})
    await accept(store, order(a=3))
    await store.stores.stock.give_back(order(a=3), leg(state="undone"))
    with pytest.raises(LegEnded):
        await store.stores.stock.take(order(a=3), leg(), LATER)
    assert await store.query(LEFT) == [(10,)]


async def test_a_call_that_another_overtook_takes_no_stock(store: Store) -> None:
    await store.stores.stock.add({"a": 10})
    await accept(store, order(a=3))
    await store.stores.journal.write(leg(state="failed", attempts=2))
    with pytest.raises(LegEnded):
        await store.stores.stock.take(order(a=3), leg(attempts=2), LATER)
    assert await store.query(LEFT) == [(10,)]
    await store.stores.stock.take(order(a=3), leg(attempts=3), LATER)
    assert await store.query(LEFT) == [(7,)]


async def test_a_call_after_one_that_failed_may_find_that_stock_is_short(store: Store) -> None:
    await store.stores.stock.add({"a": 1})
    await accept(store, order(a=3))
    await store.stores.journal.write(leg(state="failed"))
    assert await refusal(store.stores.stock.take(order(a=3), leg(attempts=2), LATER)) == "out_of_stock"


async def test_taking_and_giving_back_at_once_leave_the_stock_as_it_was(store: Store) -> None:
    await store.stores.stock.add({"a": 1_000})
    ids = [f"o-{n}" for n in range(20)]
    for order_id in ids:
        await accept(store, order(order_id, a=3))
    await asyncio.gather(
        *(store.stores.stock.take(order(one, a=3), leg(run=one), LATER) for one in ids),
        *(store.stores.stock.give_back(order(one, a=3), leg(state="undone", run=one)) for one in ids),
        return_exceptions=True,
    )
    assert await store.query(LEFT) == [(1_000,)]
    assert await store.query("SELECT DISTINCT state FROM workflow_legs WHERE leg = 'inventory'") == [("undone",)]


async def test_another_order_of_the_same_event_id_is_a_conflict(store: Store) -> None:
    await accept(store, order(a=3))
    for other in (order("o-2", a=1), order(a=4)):
        this = delivery("o-1", OTHER)
        assert await refusal(store.stores.orders.accept(other, this, leg("validate", run="o-2"))) == "conflict"
    assert await store.query("SELECT fingerprint, deliveries FROM processed") == [(ONE, 1)]
    assert await store.query("SELECT order_id FROM orders") == [("o-1",)]
    assert await store.stores.journal.read("order/o-2") == []


@pytest.mark.parametrize(
    "other", [order(user_id="u-2", a=3), order(a=4), order(a=3, b=1), order(b=3)], ids=["user", "count", "more", "sku"]
)
async def test_an_order_that_was_placed_otherwise_is_a_conflict(store: Store, other: Order) -> None:
    await store.stores.orders.place(order(a=3), EVENT)
    assert await refusal(accept(store, other)) == "conflict"
    assert await store.stores.orders.find("o-1") == stored(order(a=3))
    assert await store.stores.journal.read("order/o-1") == []
    assert await store.query("SELECT * FROM processed") == []
    await accept(store, order(a=3))


async def test_one_of_many_calls_at_once_accepts_the_order(store: Store) -> None:
    accepting = (store.stores.orders.accept(order(a=1), delivery("e-1"), leg("validate")) for _ in range(20))
    results = await asyncio.gather(*accepting, return_exceptions=True)
    assert results.count(None) == 1
    assert all(isinstance(one, StoreError) for one in results if one is not None)
    assert await store.query("SELECT count(*) FROM orders") == [(1,)]


async def test_the_last_of_a_stock_is_sold_once(store: Store) -> None:
    await store.stores.stock.add({"a": 20})
    results = await asyncio.gather(*(take(store, order(f"o-{n}", a=1)) for n in range(50)), return_exceptions=True)
    assert results.count(None) == 20
    assert {result.outcome.reason for result in results if isinstance(result, Refused)} == {"out_of_stock"}
    assert await store.query(LEFT) == [(0,)]
    assert await store.query("SELECT count(*) FROM orders WHERE taken_at IS NOT NULL") == [(20,)]


async def test_orders_at_once_of_the_same_skus_in_any_order_do_not_block_each_other(store: Store) -> None:
    skus = [f"s-{n}" for n in range(6)]
    await store.stores.stock.add(dict.fromkeys(skus, 1_000))
    wanted = [skus[n % 6 :] + skus[: n % 6] for n in range(60)]
    orders = [order(f"o-{n}", **dict.fromkeys(one if n % 2 else one[::-1], 1)) for n, one in enumerate(wanted)]
    await asyncio.gather(*(take(store, one) for one in orders))
    assert await store.query(LEFT) == [(940,)] * 6
    undone = [leg(state="undone", run=one.order_id) for one in orders]
    await asyncio.gather(*(store.stores.stock.give_back(one, back) for one, back in zip(orders, undone, strict=True)))
    assert await store.query(LEFT) == [(1_000,)] * 6


async def test_an_order_of_many_skus_is_taken_whole(store: Store) -> None:
    skus = {f"s-{n:04}": n + 1 for n in range(1_000)}
    await store.stores.stock.add(skus)
    await take(store, order(**skus))
    assert await store.query("SELECT sum(quantity), count(*) FROM stock") == [(0, 1_000)]
    found = await store.stores.orders.find("o-1")
    assert found is not None
    assert dict(found.quantities) == skus


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (order("o\0", a=1), "nul"),
        (order(user_id="\0", a=1), "nul"),
        (order(**{"a\0": 1}), "nul"),
        (order("o" * 1_025, a=1), "too_long"),
        (order(user_id="u" * 1_025, a=1), "too_long"),
        (order(**{"☃" * 342: 1}), "too_long"),
    ],
    ids=["NUL in id", "NUL in user", "NUL in sku", "id", "user", "sku in bytes"],
)
async def test_what_not_every_database_keeps_is_refused(store: Store, bad: Order, reason: str) -> None:
    await store.stores.stock.add({"a": 1})
    assert await refusal(store.stores.orders.place(bad, EVENT)) == reason
    assert await refusal(accept(store, bad)) == reason
    assert await refusal(store.stores.stock.take(bad, leg(), LATER)) == reason
    assert await refusal(store.stores.stock.give_back(bad, leg(state="undone"))) == reason
    assert await store.stores.orders.find(bad.order_id) is None
    assert await store.query("SELECT * FROM orders") == []
    assert await store.stores.outbox.count() == 0


async def test_skus_not_every_database_keeps_are_refused(store: Store) -> None:
    assert await refusal(store.stores.stock.add({"a": 1, "b\0": 1})) == "nul"
    assert await refusal(store.stores.stock.add({"a": 1, "b" * 1_025: 1})) == "too_long"
    await store.stores.stock.add({})
    assert await store.query(STOCK) == []


async def test_skus_that_exist_stay_as_they_are(store: Store) -> None:
    await store.stores.stock.add({"a": 1, "'; DROP TABLE stock": 2})
    await store.stores.stock.add({"a": 9, "b": 0})
    assert await store.query(STOCK) == [("'; DROP TABLE stock", 2), ("a", 1), ("b", 0)]
