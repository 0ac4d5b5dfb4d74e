"""What every store keeps to, whatever database is behind it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.seed import seed
from handlers.services import Services, open_services
from handlers.stores.processed import Delivery, Refused
from handlers.stores.readings import Reading
from handlers.stores.stock import Order
from handlers.stores.users import User
from streamproc.settings import Settings

ONE, OTHER = b"1" * 16, b"2" * 16


@dataclass(frozen=True)
class Store:
    """Opened services and what their tables hold, read past them."""

    services: Services
    query: Callable[[str], list[Any]]


def sqlite_reader(file: Path) -> Callable[[str], list[Any]]:
    def query(sql: str) -> list[Any]:
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute(sql).fetchall()

    return query


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url, query = {"sqlite": (f"sqlite:///{tmp_path}/a.db", sqlite_reader(tmp_path / "a.db"))}[request.param]
    settings = msgspec.convert({"store": {"url": url}, "mail": {"directory": str(tmp_path / "mail")}}, Settings)
    async with open_services(settings) as services:
        yield Store(services, query)


def delivery(event_id: str, fingerprint: bytes = ONE, *, scope: str = "f/events") -> Delivery:
    return Delivery(scope, event_id, fingerprint)


def order(**quantities: int) -> Order:
    return Order("o-1", "u-1", quantities, 1.5)


def reading(event_id: str, fingerprint: bytes = ONE, *, processed_at: float = 2.5, scope: str = "f/events") -> Reading:
    return Reading(scope, event_id, fingerprint, "s-1", 1.25, 20.5, 40.0, processed_at)


async def refusal(work: Any) -> str:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value.outcome.reason


async def test_a_user_is_found_by_its_id(store: Store) -> None:
    user = User("u-ö", "u@example.com", "Zoë; DROP TABLE users --")
    await store.services.users.add([user])
    assert await store.services.users.find("u-ö") == user
    assert await store.services.users.find("u-0") is None


async def test_users_that_exist_stay_as_they_are(store: Store) -> None:
    for name in ("first", "second"):
        await store.services.users.add([User("u-1", "u@example.com", name)])
    found = await store.services.users.find("u-1")
    assert found is not None
    assert found.name == "first"


async def test_stock_is_taken_with_its_order(store: Store) -> None:
    await store.services.stock.add({"a": 10, "b": 10})
    await store.services.stock.take(order(a=3, b=10), delivery("e-1"))
    assert store.query("SELECT sku, quantity FROM stock ORDER BY sku") == [("a", 7), ("b", 0)]
    assert store.query("SELECT order_id, user_id, event_id, processed_at FROM orders") == [("o-1", "u-1", "e-1", 1.5)]
    assert store.query("SELECT sku, quantity FROM order_items ORDER BY sku") == [("a", 3), ("b", 10)]


@pytest.mark.parametrize(("short", "reason"), [({"b": 11}, "out_of_stock"), ({"z": 1}, "unknown_sku")])
async def test_all_or_nothing_is_taken(store: Store, short: dict[str, int], reason: str) -> None:
    await store.services.stock.add({"a": 10, "b": 10})
    assert await refusal(store.services.stock.take(order(a=3, **short), delivery("e-1"))) == reason
    assert store.query("SELECT quantity FROM stock") == [(10,), (10,)]
    assert store.query("SELECT * FROM orders") == []
    assert store.query("SELECT * FROM processed") == []


async def test_a_refused_order_can_be_taken_later(store: Store) -> None:
    await store.services.stock.add({"a": 1})
    assert await refusal(store.services.stock.take(order(a=1, b=1), delivery("e-1"))) == "unknown_sku"
    await store.services.stock.add({"b": 1})
    await store.services.stock.take(order(a=1, b=1), delivery("e-1"))
    assert store.query("SELECT quantity FROM stock") == [(0,), (0,)]


async def test_a_repeat_takes_no_stock_and_is_counted(store: Store) -> None:
    await store.services.stock.add({"a": 10})
    await asyncio.gather(*(store.services.stock.take(order(a=3), delivery("e-1")) for _ in range(5)))
    assert store.query("SELECT quantity FROM stock") == [(7,)]
    assert store.query("SELECT event_id, deliveries FROM processed") == [("e-1", 5)]
    assert len(store.query("SELECT * FROM orders")) == 1


async def test_another_order_of_the_same_event_id_is_a_conflict(store: Store) -> None:
    await store.services.stock.add({"a": 10})
    await store.services.stock.take(order(a=3), delivery("e-1"))
    assert await refusal(store.services.stock.take(order(a=4), delivery("e-1", OTHER))) == "conflict"
    assert store.query("SELECT quantity FROM stock") == [(7,)]
    assert store.query("SELECT fingerprint, deliveries FROM processed") == [(ONE, 1)]


async def test_an_event_id_means_something_only_in_its_scope(store: Store) -> None:
    await store.services.stock.add({"a": 10})
    await store.services.stock.take(order(a=3), delivery("e-1"))
    await store.services.stock.take(order(a=3), delivery("e-1", OTHER, scope="f/other"))
    assert store.query("SELECT quantity FROM stock") == [(4,)]


async def test_the_last_of_a_stock_is_sold_once(store: Store) -> None:
    await store.services.stock.add({"a": 20})
    taking = [store.services.stock.take(order(a=1), delivery(f"e-{n}")) for n in range(50)]
    results = await asyncio.gather(*taking, return_exceptions=True)
    assert results.count(None) == 20
    assert {result.outcome.reason for result in results if isinstance(result, Refused)} == {"out_of_stock"}
    assert store.query("SELECT quantity FROM stock") == [(0,)]
    assert store.query("SELECT count(*) FROM orders") == [(20,)]


async def test_a_claim_is_open_until_it_is_recorded(store: Store) -> None:
    processed = store.services.processed
    assert await processed.claim(delivery("e-1"))
    assert await processed.claim(delivery("e-1"))
    await processed.record(delivery("e-1"))
    assert not await processed.claim(delivery("e-1"))
    assert await processed.claim(delivery("e-1", scope="g/events"))
    assert store.query("SELECT scope, event_id, deliveries FROM processed ORDER BY scope") == [
        ("f/events", "e-1", 2),
        ("g/events", "e-1", 0),
    ]


async def test_a_claim_keeps_the_event_id_before_it_is_recorded(store: Store) -> None:
    await store.services.processed.claim(delivery("e-1"))
    assert await refusal(store.services.processed.claim(delivery("e-1", OTHER))) == "conflict"
    assert store.query("SELECT fingerprint, deliveries FROM processed") == [(ONE, 0)]


async def test_another_delivery_of_the_same_event_id_is_a_conflict(store: Store) -> None:
    await store.services.processed.record(delivery("e-1"))
    assert await refusal(store.services.processed.claim(delivery("e-1", OTHER))) == "conflict"
    assert await refusal(store.services.processed.record(delivery("e-1", OTHER))) == "conflict"
    assert store.query("SELECT fingerprint, deliveries FROM processed") == [(ONE, 1)]


async def test_readings_are_stored_whole(store: Store) -> None:
    assert not await store.services.readings.upsert([reading("e-1"), reading("e-2")])
    row = "SELECT event_id, sensor_id, timestamp, temperature, humidity, processed_at, deliveries FROM readings"
    assert store.query(row) == [(f"e-{n}", "s-1", 1.25, 20.5, 40.0, 2.5, 1) for n in (1, 2)]


async def test_a_repeated_reading_is_counted_and_keeps_its_time(store: Store) -> None:
    await store.services.readings.upsert([reading("e-1")])
    repeats = [reading("e-1", processed_at=9.0), reading("e-2"), reading("e-2", processed_at=9.0)]
    assert not await store.services.readings.upsert(repeats)
    assert store.query("SELECT processed_at, deliveries FROM readings") == [(2.5, 2), (2.5, 2)]


async def test_only_the_conflicting_readings_of_a_batch_are_named(store: Store) -> None:
    await store.services.readings.upsert([reading("e-1")])
    batch = [reading("e-1"), reading("e-1", OTHER), reading("e-2"), reading("e-2", OTHER), reading("e-3", OTHER)]
    assert set(await store.services.readings.upsert(batch)) == {1, 3}
    counted = "SELECT event_id, fingerprint, deliveries FROM readings ORDER BY event_id"
    assert store.query(counted) == [("e-1", ONE, 2), ("e-2", ONE, 1), ("e-3", OTHER, 1)]


async def test_a_reading_of_the_same_event_id_in_another_scope_is_another(store: Store) -> None:
    batch = [reading("e-1"), reading("e-1", OTHER, scope="f/other")]
    assert not await store.services.readings.upsert(batch)
    assert store.query("SELECT fingerprint FROM readings ORDER BY scope") == [(ONE,), (OTHER,)]


async def test_nothing_to_store_is_no_error(store: Store) -> None:
    assert not await store.services.readings.upsert([])


async def test_seeding_twice_changes_nothing(store: Store) -> None:
    await seed(store.services, users=3, skus=2, quantity=5)
    await store.services.stock.take(order(**{"sku-0": 1}), delivery("e-1"))
    await seed(store.services, users=3, skus=2, quantity=5)
    assert store.query("SELECT sku, quantity FROM stock ORDER BY sku") == [("sku-0", 4), ("sku-1", 5), ("sku-none", 0)]
    assert await store.services.users.find("u-2") == User("u-2", "u-2@example.com", "User 2")
    assert await store.services.users.find("u-3") is None
