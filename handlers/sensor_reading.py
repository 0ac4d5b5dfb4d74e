"""`sensor.reading`: stores readings and raises an alert where it is hot."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.services import Services
from handlers.stores.processed import fingerprint
from handlers.stores.readings import Reading
from streamproc import BatchContext, Event, Failures, Reject

HOT = 30.0
"""Degrees Celsius; what is above raises an alert."""
ALERTS = "alerts"
YEARS = range(2000, 2100)
CONFLICT = Reject("conflict", "this event id came before with other content")


def check_year(timestamp: datetime) -> None:
    """Raises ValueError for a time that no sensor here can have measured at."""
    if timestamp.year not in YEARS:
        raise ValueError("timestamp is not in the years 2000 to 2099")


class SensorReading(Event, tag="sensor.reading"):
    """A measurement: degrees Celsius, and relative humidity in percent."""

    sensor_id: Annotated[str, Meta(min_length=1, max_length=200)]
    timestamp: Annotated[datetime, Meta(tz=True)]
    temperature: float
    humidity: float

    def __post_init__(self) -> None:
        check_year(self.timestamp)


class TemperatureAlert(Event, tag="temperature.alert"):
    """A sensor measured more than `HOT`. `reading_id` is the event id of the reading: repeats have the same."""

    sensor_id: str
    temperature: float
    timestamp: datetime
    reading_id: str


async def store_readings(readings: Sequence[SensorReading], ctx: BatchContext[Services]) -> Failures | None:
    """Stores a batch with the time of its processing, once per event id.

    A repeat raises its alert again: the first one may have got lost in a crash between the store and the broker.
    """
    processed_at = ctx.now
    rows = [
        _row(reading, item.topic, item.event_id, processed_at=processed_at)
        for reading, item in zip(readings, ctx.records, strict=True)
    ]
    conflicts = await ctx.services.readings.upsert(rows)
    for index, reading in enumerate(readings):
        if reading.temperature > HOT and index not in conflicts:
            reading_id = rows[index].event_id
            alert = TemperatureAlert(reading.sensor_id, reading.temperature, reading.timestamp, reading_id)
            ctx.emit(alert, topic=ALERTS, key=reading.sensor_id)
    return Failures(dict.fromkeys(conflicts, CONFLICT)) if conflicts else None


def _row(reading: SensorReading, topic: str, event_id: str, *, processed_at: datetime) -> Reading:
    return Reading(
        f"store_readings/{topic}",
        event_id,
        fingerprint(reading),
        reading.sensor_id,
        reading.timestamp,
        reading.temperature,
        reading.humidity,
        processed_at,
    )
