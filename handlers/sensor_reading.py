"""`sensor.reading`: stores readings and raises an alert where it is hot."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from handlers.services import Services
from handlers.stores.alerts import AlertRule
from handlers.stores.readings import Reading
from handlers.temperature_alert import TemperatureAlert
from streamproc import BatchContext, Event, Failures, Reject
from streamproc.model import OutRecord

HOT = 30.0
"""Degrees Celsius; what is above raises an alert."""
ALERT_PAUSE = timedelta(minutes=5)
"""How far apart alerts of one sensor are at least, by the times of its readings."""
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


async def store_readings(readings: Sequence[SensorReading], ctx: BatchContext[Services]) -> Failures | None:
    """Stores a batch with the time of its processing and, in the same transaction, the alerts it raises."""

    def alert_of(row: Reading) -> OutRecord:
        alert = TemperatureAlert(row.sensor_id, row.temperature, row.timestamp)
        return ctx.event(alert, key=row.sensor_id, event_id=f"alert/{row.sensor_id}/{row.timestamp.isoformat()}")

    processed_at = ctx.now
    rows = [
        Reading(
            reading.sensor_id,
            reading.timestamp,
            item.event_id,
            reading.temperature,
            reading.humidity,
            processed_at,
        )
        for reading, item in zip(readings, ctx.records, strict=True)
    ]
    conflicts = await ctx.services.readings.upsert(rows, AlertRule(HOT, ALERT_PAUSE, alert_of))
    return Failures(dict.fromkeys(conflicts, CONFLICT)) if conflicts else None
