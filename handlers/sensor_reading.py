"""`sensor.reading`: stores readings, and raises an alert where it is hot."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.services import Services
from handlers.stores.readings import Reading
from streamproc import BatchContext, Event, Failures, Reject

HOT = 30.0
"""Degrees Celsius; above it is an alert."""
ALERTS = "alerts"


class SensorReading(Event, tag="sensor.reading"):
    """What a sensor has measured: degrees Celsius and percent."""

    sensor_id: Annotated[str, Meta(min_length=1, max_length=200)]
    timestamp: Annotated[datetime, Meta(tz=True)]
    temperature: float
    humidity: float

    def __post_init__(self) -> None:
        if not 2000 <= self.timestamp.year < 2100:
            raise ValueError("timestamp is outside of the years 2000 to 2099")


class TemperatureAlert(Event, tag="temperature.alert"):
    """It is hot at a sensor."""

    sensor_id: str
    timestamp: datetime
    temperature: float
    event_id: str


async def store_readings(readings: Sequence[SensorReading], ctx: BatchContext[Services]) -> Failures | None:
    """Stores a batch with the time of its processing, once per event id."""
    now = ctx.now.timestamp()
    rows = [
        Reading(
            item.event_id, reading.sensor_id, reading.timestamp.timestamp(), reading.temperature, reading.humidity, now
        )
        for reading, item in zip(readings, ctx.records, strict=True)
    ]
    conflicts = set(await ctx.services.readings.upsert(rows))
    for index, (row, reading) in enumerate(zip(rows, readings, strict=True)):
        if reading.temperature > HOT and index not in conflicts:
            alert = TemperatureAlert(reading.sensor_id, reading.timestamp, reading.temperature, row.event_id)
            ctx.emit(alert, topic=ALERTS, key=reading.sensor_id)
    if conflicts:
        return Failures(dict.fromkeys(conflicts, Reject("conflict", "this event id came before with another content")))
    return None
