"""What events took effect, and what is filled in to work on, whatever database is behind it."""

import asyncio
from hashlib import shake_256
from typing import Any

import pytest

from handlers.seed import seed
from handlers.stores.processed import Delivery
from tests.contract.stores import LATER, ONE, OTHER, Store, delivery, leg, order, refusal

COUNTED = "SELECT fingerprint, deliveries FROM processed"


async def test_a_claim_is_open_until_it_is_recorded(store: Store) -> None:
    processed = store.stores.processed
    assert await processed.claim(delivery("e-1"))
    assert await processed.claim(delivery("e-1"))
    await processed.record(delivery("e-1"))
    assert not await processed.claim(delivery("e-1"))
    assert await processed.claim(delivery("e-1", scope="g/events"))
    assert await store.query("SELECT scope, event_id, deliveries FROM processed ORDER BY scope") == [
        ("f/events", "e-1", 2),
        ("g/events", "e-1", 0),
    ]


async def test_a_claim_keeps_the_event_id_before_it_is_recorded(store: Store) -> None:
    await store.stores.processed.claim(delivery("e-1"))
    assert await refusal(store.stores.processed.claim(delivery("e-1", OTHER))) == "conflict"
    assert await store.query(COUNTED) == [(ONE, 0)]


async def test_another_delivery_of_the_same_event_id_is_a_conflict(store: Store) -> None:
    await store.stores.processed.record(delivery("e-1"))
    assert await refusal(store.stores.processed.claim(delivery("e-1", OTHER))) == "conflict"
    assert await refusal(store.stores.processed.record(delivery("e-1", OTHER))) == "conflict"
    assert await store.query(COUNTED) == [(ONE, 1)]


async def test_records_at_once_are_all_counted(store: Store) -> None:
    await asyncio.gather(*(store.stores.processed.record(delivery("e-1")) for _ in range(20)))
    assert await store.query(COUNTED) == [(ONE, 20)]


async def test_the_longest_keys_fit_into_an_index_however_they_are_compressed(store: Store) -> None:
    scope, event_id = (shake_256(salt).hexdigest(512) for salt in (b"1", b"2"))
    await store.stores.processed.record(delivery(event_id, scope=scope))
    assert not await store.stores.processed.claim(delivery(event_id, scope=scope))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (delivery("e\0"), "nul"),
        (delivery("e-1", scope="\0"), "nul"),
        (delivery("e" * 1_025), "too_long"),
        (delivery("e-1", scope="☃" * 342), "too_long"),
    ],
    ids=["NUL in event", "NUL in scope", "event", "scope in bytes"],
)
async def test_what_not_every_database_keeps_is_refused(store: Store, bad: Delivery, reason: str) -> None:
    assert await refusal(store.stores.processed.claim(bad)) == reason
    assert await refusal(store.stores.processed.record(bad)) == reason
    assert await refusal(store.stores.orders.accept(order(a=1), bad, leg("validate"))) == reason
    assert await store.query(COUNTED) == []


async def test_seeding_twice_changes_nothing(store: Store) -> None:
    stores = store.stores
    services: Any = stores
    await seed(services, users=3, skus=2, quantity=5)
    await stores.stock.take(order(**{"sku-0": 1}), leg(), LATER)
    before = await store.query("SELECT * FROM users ORDER BY user_id")
    await seed(services, users=3, skus=2, quantity=5)
    assert await store.query("SELECT sku, quantity FROM stock ORDER BY sku") == [
        ("sku-0", 4),
        ("sku-1", 5),
        ("sku-none", 0),
    ]
    assert await store.query("SELECT * FROM users ORDER BY user_id") == before
    found = await stores.users.find("u-2")
    assert found is not None
    assert (found.email, found.name) == ("u-2@example.com", "User 2")
    assert await stores.users.find("u-3") is None
