"""Readings, whatever database is behind them."""

import asyncio

import pytest

from handlers.stores.readings import Reading
from tests.contract.stores import LATER, NOON, ONE, OTHER, Store, reading, refusal

COUNTED = "SELECT event_id, fingerprint, deliveries FROM readings ORDER BY event_id"


async def test_readings_are_stored_whole(store: Store) -> None:
    odd = reading("e-'2")._replace(sensor_id="☃'; --", temperature=-1.5e300, humidity=0.1)
    assert not await store.stores.readings.upsert([reading("e-1", at=LATER), odd])
    row = "SELECT event_id, sensor_id, timestamp, temperature, humidity, processed_at, deliveries FROM readings"
    assert await store.query(f"{row} ORDER BY event_id DESC") == [
        ("e-1", "s-1", NOON.timestamp(), 20.5, 40.0, LATER.timestamp(), 1),
        ("e-'2", "☃'; --", NOON.timestamp(), -1.5e300, 0.1, NOON.timestamp(), 1),
    ]


async def test_a_repeated_reading_is_counted_and_keeps_its_time(store: Store) -> None:
    await store.stores.readings.upsert([reading("e-1")])
    repeats = [reading("e-1", at=LATER), reading("e-2"), reading("e-2", at=LATER)]
    assert not await store.stores.readings.upsert(repeats)
    rows = await store.query("SELECT processed_at, deliveries FROM readings")
    assert rows == [(NOON.timestamp(), 2), (NOON.timestamp(), 2)]


async def test_only_the_conflicting_readings_of_a_batch_are_named(store: Store) -> None:
    await store.stores.readings.upsert([reading("e-1")])
    assert set(await store.stores.readings.upsert([reading("e-0"), reading("e-1", OTHER), reading("e-3", OTHER)])) == {
        1
    }
    counted = [("e-0", ONE, 1), ("e-1", ONE, 1), ("e-3", OTHER, 1)]
    assert await store.query(COUNTED) == counted


@pytest.mark.parametrize(
    ("contents", "conflicts", "kept"),
    [
        ([ONE, ONE, ONE], set(), (ONE, 3)),
        ([ONE, OTHER], {1}, (ONE, 1)),
        ([ONE, OTHER, ONE, OTHER], {1, 3}, (ONE, 2)),
        ([OTHER, ONE, ONE, b"3" * 16], {1, 2, 3}, (OTHER, 1)),
    ],
    ids=["the same", "another", "in turns", "three"],
)
async def test_the_first_content_of_an_id_in_a_batch_is_kept(
    store: Store, contents: list[bytes], conflicts: set[int], kept: tuple[bytes, int]
) -> None:
    batch = [reading("e-1", content) for content in contents]
    assert set(await store.stores.readings.upsert(batch)) == conflicts
    assert await store.query(COUNTED) == [("e-1", *kept)]


async def test_the_stored_content_of_an_id_is_kept_whatever_comes_first(store: Store) -> None:
    await store.stores.readings.upsert([reading("e-1", OTHER)])
    batch = [reading("e-1", ONE), reading("e-1", OTHER), reading("e-2"), reading("e-1", OTHER), reading("e-1", ONE)]
    assert set(await store.stores.readings.upsert(batch)) == {0, 4}
    assert await store.query(COUNTED) == [("e-1", OTHER, 3), ("e-2", ONE, 1)]


async def test_a_reading_of_the_same_event_id_in_another_scope_is_another(store: Store) -> None:
    batch = [reading("e-1"), reading("e-1", OTHER, scope="f/other")]
    assert not await store.stores.readings.upsert(batch)
    assert await store.query("SELECT fingerprint FROM readings ORDER BY scope") == [(ONE,), (OTHER,)]


async def test_the_same_batch_many_times_at_once_is_stored_once(store: Store) -> None:
    batch = [reading(f"e-{n:03}") for n in range(100)]
    answers = await asyncio.gather(*(store.stores.readings.upsert(batch) for _ in range(5)))
    assert not any(answers)
    assert await store.query("SELECT count(*), min(deliveries), max(deliveries) FROM readings") == [(100, 5, 5)]


async def test_nothing_to_store_is_no_error(store: Store) -> None:
    assert not await store.stores.readings.upsert([])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (reading("e\0"), "nul"),
        (reading("e-1", scope="\0"), "nul"),
        (reading("e-1")._replace(sensor_id="s\0"), "nul"),
        (reading("e" * 1_001), "too_long"),
    ],
    ids=["NUL in event", "NUL in scope", "NUL in sensor", "event"],
)
async def test_what_not_every_database_keeps_is_refused(store: Store, bad: Reading, reason: str) -> None:
    assert await refusal(store.stores.readings.upsert([reading("e-0"), bad])) == reason
    assert await store.query(COUNTED) == []


async def test_the_longest_texts_are_kept(store: Store) -> None:
    longest = reading("\U0001f600" * 250, scope="☃" * 333)._replace(sensor_id="s" * 100_000)
    assert not await store.stores.readings.upsert([longest, longest])
    assert await store.query("SELECT deliveries FROM readings") == [(2,)]
