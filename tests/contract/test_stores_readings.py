"""Readings and their alerts, whatever database is behind them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import msgspec
import pytest

from handlers.app import app
from handlers.readings import BEGIN, END
from handlers.stores.alerts import AlertRule
from handlers.stores.readings import Reading
from streamproc import testing
from streamproc.model import OutRecord
from tests.contract.stores import LATER, NOON, Store, reading, refusal

COUNTED = "SELECT event_id, temperature, deliveries FROM readings ORDER BY timestamp, event_id"
ALERTS = "SELECT sensor_id, timestamp, temperature FROM alerts ORDER BY timestamp, sensor_id"
PAUSE = timedelta(minutes=5)
RULE = AlertRule(30.0, PAUSE, lambda one: OutRecord("t", msgspec.json.encode([one.sensor_id, one.temperature])))


def at(minutes: float, *, sensor: str = "s-1", temperature: float = 20.5, event_id: str = "") -> Reading:
    """A reading so many minutes after noon."""
    made = reading(event_id or f"e-{sensor}-{minutes}-{temperature}")
    return made._replace(sensor_id=sensor, timestamp=NOON + timedelta(minutes=minutes), temperature=temperature)


def hot(minutes: float, sensor: str = "s-1") -> Reading:
    return at(minutes, sensor=sensor, temperature=30.5)


async def upsert(store: Store, *readings: Reading) -> set[int]:
    return set(await store.stores.readings.upsert(readings, RULE))


async def raised(store: Store) -> list[float]:
    """Minutes after noon of the alerts, after it was seen that each has an event."""
    rows = await store.query(ALERTS)
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        events = [msgspec.json.decode(record.value or b"") for _, record in await waiting.take(1_000)]
    assert sorted(events) == sorted([sensor, temperature] for sensor, _, temperature in rows)
    return [round((second - NOON.timestamp()) / 60, 3) for _, second, _ in rows]


async def test_readings_are_stored_whole(store: Store) -> None:
    odd = reading("e-'2")._replace(sensor_id="☃'; --", temperature=-1.5e300, humidity=0.1)
    assert not await upsert(store, reading("e-1", at=LATER), odd)
    row = "SELECT event_id, sensor_id, timestamp, temperature, humidity, processed_at, deliveries FROM readings"
    assert await store.query(f"{row} ORDER BY event_id DESC") == [
        ("e-1", "s-1", NOON.timestamp(), 20.5, 40.0, LATER.timestamp(), 1),
        ("e-'2", "☃'; --", NOON.timestamp(), -1.5e300, 0.1, NOON.timestamp(), 1),
    ]


async def test_a_repeated_reading_is_counted_and_keeps_its_time(store: Store) -> None:
    await upsert(store, reading("e-1"))
    second = at(1, event_id="e-2")
    assert not await upsert(store, reading("e-1", at=LATER), second, second._replace(processed_at=LATER))
    rows = await store.query("SELECT processed_at, deliveries FROM readings")
    assert rows == [(NOON.timestamp(), 2), (NOON.timestamp(), 2)]


@pytest.mark.parametrize("together", [True, False])
async def test_a_later_event_of_the_same_sensor_and_time_replaces_the_reading(store: Store, together: bool) -> None:
    first, second = reading("e-1"), reading("e-2", -3.0, at=LATER)._replace(humidity=1.0)
    for batch in [[first, second]] if together else [[first], [second]]:
        assert not await upsert(store, *batch)
    row = "SELECT event_id, temperature, humidity, processed_at, deliveries FROM readings"
    assert await store.query(row) == [("e-2", -3.0, 1.0, LATER.timestamp(), 2)]


async def test_only_the_conflicting_readings_of_a_batch_are_named(store: Store) -> None:
    await upsert(store, at(0, event_id="e-1"))
    conflicting = at(0, event_id="e-1", temperature=99.0)
    assert await upsert(store, at(1, event_id="e-0"), conflicting, at(2, event_id="e-3")) == {1}
    assert await store.query(COUNTED) == [("e-1", 20.5, 1), ("e-0", 20.5, 1), ("e-3", 20.5, 1)]
    assert await raised(store) == []


@pytest.mark.parametrize(
    ("contents", "conflicts", "kept"),
    [
        ([1.0, 1.0, 1.0], set(), (1.0, 3)),
        ([1.0, 2.0], {1}, (1.0, 1)),
        ([1.0, 2.0, 1.0, 2.0], {1, 3}, (1.0, 2)),
        ([2.0, 1.0, 1.0, 3.0], {1, 2, 3}, (2.0, 1)),
    ],
    ids=["the same", "another", "in turns", "three"],
)
async def test_the_first_content_of_an_event_id_is_kept(
    store: Store, contents: list[float], conflicts: set[int], kept: tuple[float, int]
) -> None:
    assert await upsert(store, *(reading("e-1", content) for content in contents)) == conflicts
    assert await store.query(COUNTED) == [("e-1", *kept)]


async def test_another_humidity_is_other_content(store: Store) -> None:
    assert await upsert(store, reading("e-1"), reading("e-1")._replace(humidity=41.0)) == {1}


async def test_the_same_batch_many_times_at_once_is_stored_once(store: Store) -> None:
    batch = [at(n, event_id=f"e-{n:03}", temperature=25 + n / 10) for n in range(100)]
    answers = await asyncio.gather(*(upsert(store, *batch) for _ in range(5)))
    assert not any(answers)
    assert await store.query("SELECT count(*), min(deliveries), max(deliveries) FROM readings") == [(100, 5, 5)]
    assert await raised(store) == [float(n) for n in range(51, 100, 5)]


async def test_nothing_to_store_is_no_error(store: Store) -> None:
    assert not await upsert(store)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (reading("e\0"), "nul"),
        (reading("e-1")._replace(sensor_id="s\0"), "nul"),
        (reading("e" * 1_025), "too_long"),
        (reading("e-1")._replace(sensor_id="☃" * 342), "too_long"),
    ],
    ids=["NUL in event", "NUL in sensor", "event", "sensor"],
)
async def test_what_not_every_database_keeps_is_refused(store: Store, bad: Reading, reason: str) -> None:
    assert await refusal(store.stores.readings.upsert([at(0), bad], RULE)) == reason
    assert await store.query(COUNTED) == []


@pytest.mark.parametrize(
    ("minutes", "alerts"),
    [
        ([0], [0]),
        ([0, 1, 4.999, 5, 9.999, 10], [0, 5, 10]),
        ([0, 0, 0], [0]),
        ([10, 0, 6, 5, 16], [0, 5, 10, 16]),  # late ones, too
        ([0, 4, 6], [0, 6]),
        ([-100_000, 100_000, 0], [-100_000, 0, 100_000]),  # a clock that was wrong silences nobody
    ],
    ids=["one", "each five minutes", "the same", "late", "near two", "wrong clock"],
)
@pytest.mark.parametrize("together", [True, False])
async def test_alerts_of_a_sensor_are_at_least_the_pause_apart(
    store: Store, minutes: Sequence[float], alerts: Sequence[float], together: bool
) -> None:
    readings = [hot(minute) for minute in minutes]
    for batch in [readings] if together else [[one] for one in readings]:
        await upsert(store, *batch)
    assert await raised(store) == alerts
    await upsert(store, *readings)
    assert await raised(store) == alerts


async def test_each_sensor_has_its_own_pause_and_only_what_is_above_the_limit_counts(store: Store) -> None:
    batch = [hot(0, "a"), at(0, sensor="c", temperature=30.0), hot(1, "b"), hot(2, "a"), hot(2, "b")]
    await upsert(store, *batch)
    await upsert(store, *batch, hot(3, "c"))
    assert await raised(store) == [0, 1, 3]


async def test_batches_at_once_raise_one_alert(store: Store) -> None:
    batches = [[hot(n / 10 + m / 100) for m in range(5)] for n in range(20)]
    await asyncio.gather(*(upsert(store, *batch) for batch in batches))
    assert len(await raised(store)) == 1


async def test_readings_are_found_by_sensor_and_time(store: Store) -> None:
    await upsert(store, *(at(n, sensor=sensor) for n, sensor in product(range(10), ("s-1", "s-2"))))
    since, until = NOON + timedelta(minutes=2), NOON + timedelta(minutes=7)
    found = await store.stores.readings.find("s-1", since, until, limit=100)
    assert list(found) == [at(n) for n in range(2, 7)]
    assert list(await store.stores.readings.find("s-1", since, until, limit=2)) == [at(2), at(3)]
    assert list(await store.stores.readings.find("s-1", until, since, limit=2)) == []
    for nobody in ("s-3", "s\0"):
        assert list(await store.stores.readings.find(nobody, since, until, limit=2)) == []


async def test_all_of_time_may_be_asked_for(store: Store) -> None:
    """An offset may lead out of what a database, or its client, takes for a time."""
    assert await store.stores.readings.count(BEGIN, END) == (0, 0)
    await upsert(store, hot(0))
    query = "sensor=s-1&from=0001-01-01T00:00:00%2B23:59&to=9999-12-31T23:59:59-23:59"
    answer = await testing.request(app, f"GET /readings?{query}", services=store.stores)
    assert (answer.status, [one["temperature"] for one in msgspec.json.decode(answer.body)["readings"]]) == (
        200,
        [30.5],
    )


async def test_readings_before_a_time_are_deleted_whatever_the_sensor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.stores.readings.DELETED_AT_ONCE", 3)
    sensors = ("", "s-1", "s-2", "☃")
    await upsert(store, *(at(n, sensor=sensor) for n, sensor in product(range(10), sensors[1:])))
    assert await store.stores.readings.delete_before(NOON + timedelta(minutes=6)) == 18
    left = await store.query("SELECT sensor_id, count(*), min(timestamp) FROM readings GROUP BY sensor_id ORDER BY 1")
    first = (NOON + timedelta(minutes=6)).timestamp()
    assert left == [(sensor, 4, first) for sensor in sensors[1:]]
    assert await store.stores.readings.delete_before(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert await store.stores.readings.delete_before(datetime(2100, 1, 1, tzinfo=UTC)) == 12
    assert await store.stores.readings.delete_before(datetime(2100, 1, 1, tzinfo=UTC)) == 0
