"""Readings through the whole pipeline, in batches, into a real database."""

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from handlers.app import app
from handlers.letter import OPERATORS
from handlers.sensor_reading import SensorReading
from handlers.services import Services
from handlers.temperature_alert import TemperatureAlert
from streamproc import testing
from streamproc.model import OutRecord
from tests.unit.handlers.conftest import Mails, Query

Record = Callable[[SensorReading, str], OutRecord]

NOON = datetime(2026, 11, 24, 12, 0, 0, 500_000, UTC)


def reading(temperature: float = 20.0, *, sensor: str = "s-1", at: datetime = NOON) -> SensorReading:
    return SensorReading(sensor, at, temperature, 40.5)


async def store(services: Services, *records: Any) -> testing.Result:
    return await testing.run(app, records, services=services)


def alerts(query: Query) -> list[tuple[bytes, TemperatureAlert]]:
    """Key and event of the alerts that wait in the outbox."""
    rows = query("SELECT key, value FROM outbox ORDER BY number")
    opened = [(key, msgspec.json.decode(value)["kinesis"]["data"]) for key, value in rows]
    return [(key, msgspec.json.decode(b64decode(data), type=TemperatureAlert)) for key, data in opened]


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


async def test_a_batch_is_stored_with_the_time_of_its_processing(services: Services, query: Query) -> None:
    zone = timezone(timedelta(hours=2))
    result = await store(services, *(reading(n / 50, at=minutes(n).astimezone(zone)) for n in range(1_200)))
    assert result.count("ok") == 1_200
    rows = query("SELECT sensor_id, timestamp, humidity, deliveries FROM readings")
    assert rows == [("s-1", minutes(n).timestamp(), 40.5, 1) for n in range(1_200)]
    ((first, last, temperatures),) = query(
        "SELECT min(processed_at), max(processed_at), sum(temperature) FROM readings"
    )
    assert testing.EPOCH <= first <= last <= testing.EPOCH + 1
    assert temperatures == pytest.approx(sum(n / 50 for n in range(1_200)))


async def test_an_alert_is_raised_above_thirty_degrees(services: Services, query: Query) -> None:
    await store(services, *(reading(t, sensor=f"s-{t}") for t in (29.9, 30.0, 30.1, -40.0, 99.0)))
    assert alerts(query) == [
        (b"s-30.1", TemperatureAlert("s-30.1", 30.1, NOON)),
        (b"s-99.0", TemperatureAlert("s-99.0", 99.0, NOON)),
    ]


async def test_a_sensor_that_stays_hot_raises_an_alert_every_five_minutes(services: Services, query: Query) -> None:
    await store(services, *(reading(31.0, at=minutes(n)) for n in range(12)))
    assert [alert.timestamp for _, alert in alerts(query)] == [minutes(n) for n in (0, 5, 10)]


async def test_a_repeat_is_counted_and_raises_no_second_alert(services: Services, record: Record, query: Query) -> None:
    hot = record(reading(31.0), "e-1")
    await store(services, hot, record(reading(at=minutes(1)), "e-2"))
    await store(services, hot, hot)
    assert len(alerts(query)) == 1
    assert query("SELECT event_id, deliveries FROM readings ORDER BY event_id") == [("e-1", 3), ("e-2", 1)]


async def test_only_the_conflicting_reading_of_a_batch_is_a_dead_letter(
    services: Services, record: Record, query: Query
) -> None:
    batch = [record(reading(31.0), "e-1"), record(reading(32.0), "e-1"), record(reading(33.0, at=minutes(6)), "e-2")]
    result = await store(services, *batch)
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert [alert.temperature for _, alert in alerts(query)] == [31.0, 33.0]
    assert query("SELECT temperature FROM readings ORDER BY event_id") == [(31.0,), (33.0,)]


async def test_the_longest_event_id_takes_no_other_reading_with_it(services: Services, record: Record) -> None:
    several = [record(reading(at=minutes(n)), f"e-{n}") for n in range(9)]
    result = await store(services, *several, record(reading(at=minutes(9)), "\U0001f600" * 256))
    assert (result.count("ok"), result.dead_letters) == (10, [])


async def test_a_later_event_corrects_what_was_measured(services: Services, record: Record, query: Query) -> None:
    await store(services, record(reading(20.0), "e-1"), record(reading(21.0), "e-2"))
    assert query("SELECT temperature, event_id FROM readings") == [(21.0, "e-2")]


async def test_an_alert_is_mailed_to_the_operators_once(services: Services, record: Record, mails: Mails) -> None:
    alert: Any = TemperatureAlert("s-1 & <co>", 30.25, NOON)
    result = await store(services, *[record(alert, "a-1")] * 3)
    assert result.count("ok") == 3
    [mail] = mails()
    assert (mail["To"], mail["Subject"]) == (OPERATORS, "s-1 & <co> measures 30.2 degrees")
    text = "Sensor s-1 & <co> measured 30.2 degrees Celsius at 2026-11-24T12:00:00+00:00.\n"
    assert mail.get_body(("plain",)).get_content() == text


@pytest.mark.parametrize(
    "sensor", ["{temperature}", "{0.__class__}", "=?utf-8?q?x?=", "<script>", "\u202egpj", "s" * 200]
)
async def test_an_alert_mail_says_what_a_hostile_sensor_is_called(
    services: Services, mails: Mails, sensor: str
) -> None:
    result = await store(services, TemperatureAlert(sensor, 31.0, datetime.max.replace(tzinfo=UTC)))
    [mail] = mails()
    assert (result.count("ok"), mail["To"], mail["Subject"]) == (1, OPERATORS, f"{sensor} measures 31.0 degrees")
    assert "<script>" not in mail.get_body(("html",)).get_content()


async def test_an_alert_whose_sensor_breaks_out_of_its_line_is_a_dead_letter(services: Services, mails: Mails) -> None:
    result = await store(services, TemperatureAlert("s-1\r\nBcc: x@example.com", 31.0, NOON))
    assert result.dead_letters == [testing.DeadLetter("injection", "test-0")]


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
