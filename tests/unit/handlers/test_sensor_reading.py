"""Readings through the whole pipeline, in batches, into a real database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from handlers.app import app
from handlers.sensor_reading import SensorReading, TemperatureAlert
from handlers.services import Services
from streamproc import testing
from streamproc.model import OutRecord
from streamproc.stream.options import StreamOptions

Record = Callable[[SensorReading, str], OutRecord]
Query = Callable[[str], list[Any]]

NOON = datetime(2026, 11, 24, 12, 0, 0, 500_000, UTC)


def reading(temperature: float = 20.0, *, sensor: str = "s-1", at: datetime = NOON) -> SensorReading:
    return SensorReading(sensor, at, temperature, 40.5)


async def store(services: Services, *records: Any) -> testing.Result:
    return await testing.run(app, records, services=services)


def alerts(result: testing.Result) -> list[tuple[bytes | None, TemperatureAlert]]:
    emitted = result.emitted.get("alerts", ())
    return [(record.key, msgspec.json.decode(record.value or b"", type=TemperatureAlert)) for record in emitted]


async def test_a_batch_is_stored_with_the_time_of_its_processing(services: Services, query: Query) -> None:
    zone = timezone(timedelta(hours=2))
    result = await store(services, *(reading(n / 50, at=NOON.astimezone(zone)) for n in range(1_200)))
    assert result.count("ok") == 1_200
    rows = query("SELECT sensor_id, timestamp, humidity, deliveries FROM readings")
    assert rows == [("s-1", NOON.timestamp(), 40.5, 1)] * 1_200
    ((first, last, temperatures),) = query(
        "SELECT min(processed_at), max(processed_at), sum(temperature) FROM readings"
    )
    assert testing.EPOCH <= first <= last <= testing.EPOCH + 1
    assert temperatures == pytest.approx(sum(n / 50 for n in range(1_200)))


async def test_an_alert_is_raised_above_thirty_degrees(services: Services) -> None:
    result = await store(services, *(reading(t, sensor=f"s-{t}") for t in (29.9, 30.0, 30.1, -40.0, 99.0)))
    assert alerts(result) == [
        (b"s-30.1", TemperatureAlert("s-30.1", 30.1, NOON, "test-2")),
        (b"s-99.0", TemperatureAlert("s-99.0", 99.0, NOON, "test-4")),
    ]


async def test_a_repeat_is_counted_and_raises_its_alert_again(services: Services, record: Record, query: Query) -> None:
    hot = record(reading(31.0), "e-1")
    first = await store(services, hot, record(reading(), "e-2"))
    second = await store(services, hot, hot)
    assert (len(alerts(first)), len(alerts(second))) == (1, 2)
    assert query("SELECT event_id, deliveries FROM readings ORDER BY event_id") == [("e-1", 3), ("e-2", 1)]


async def test_only_the_conflicting_reading_of_a_batch_is_a_dead_letter(
    services: Services, record: Record, query: Query
) -> None:
    batch = [record(reading(31.0), "e-1"), record(reading(32.0), "e-1"), record(reading(33.0), "e-2")]
    result = await store(services, *batch)
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert [alert.temperature for _, alert in alerts(result)] == [31.0, 33.0]
    assert query("SELECT temperature FROM readings ORDER BY event_id") == [(31.0,), (33.0,)]


async def test_topics_may_use_the_same_event_ids(services: Services) -> None:
    values = {topic: testing.envelope(reading(sensor=topic), event_id="e-1") for topic in ("a", "b")}
    records = [OutRecord(topic, value) for topic, value in values.items()]
    result = await testing.run(app, records, services=services, options=StreamOptions(topics=["a", "b"]))
    assert result.count("ok") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "1999-12-31T23:59:59Z"},
        {"timestamp": "2100-01-01T00:00:00Z"},
        {"timestamp": "2026-11-24T12:00:00"},
        {"timestamp": 0},
        {"sensorId": ""},
        {"sensorId": "s" * 201},
        {"temperature": "20"},
    ],
    ids=str,
)
async def test_a_reading_outside_of_its_limits_is_no_reading(change: dict[str, Any], services: Services) -> None:
    fields = {"type": "sensor.reading", "sensorId": "s-1", "timestamp": "2026-11-24T12:00:00Z"}
    body = msgspec.json.encode(fields | {"temperature": 20.0, "humidity": 40.5} | change)
    result = await store(services, body)
    assert result.dead_letters == [testing.DeadLetter("schema", "test-0")]


@pytest.mark.parametrize("timestamp", ["2000-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z"])
def test_the_years_include_their_ends(timestamp: str) -> None:
    fields = {"type": "sensor.reading", "sensorId": "s", "timestamp": timestamp, "temperature": 1.0, "humidity": 1.0}
    assert msgspec.convert(fields, SensorReading, strict=False).timestamp.tzinfo is not None
