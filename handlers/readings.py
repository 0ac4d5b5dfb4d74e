"""`/readings`: sensors report, one reading or many at once."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from handlers.sensor_reading import SensorReading, check_year
from handlers.services import Services
from streamproc import Accepted, Answer, Body, HttpContext

READINGS_MAX = 10_000
BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

SensorId = Annotated[str, Meta(min_length=1, max_length=200)]
Moment = Annotated[datetime, Meta(tz=True)]
Limit = Annotated[int, Meta(ge=1, le=1_000)]


class NewReading(Body):
    """A measurement: degrees Celsius, and relative humidity in percent."""

    sensor_id: SensorId
    timestamp: Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": "^20[0-9]{2}-"})]
    temperature: float
    humidity: float

    def __post_init__(self) -> None:
        check_year(self.timestamp)


class ReadingView(Answer):
    """A reading as callers see it."""

    timestamp: datetime
    temperature: float
    humidity: float
    processed_at: datetime


class ReadingPage(Answer):
    """Readings in the order of their times; `next` is the time the next page is from, None at the end."""

    sensor_id: str
    readings: list[ReadingView]
    next: datetime | None


class Receipt(Answer):
    """How many readings are safe."""

    accepted: int


Readings = NewReading | Annotated[list[NewReading], Meta(min_length=1, max_length=READINGS_MAX)]


async def accept_readings(readings: Readings, ctx: HttpContext[Services]) -> Accepted[Receipt]:
    """Puts readings on the stream; the answer comes once the broker has them all.

    With an Idempotency-Key, a repeat has the same event ids, so that each reading is stored once.
    """
    several = readings if isinstance(readings, list) else [readings]
    for index, new in enumerate(several):
        reading = SensorReading(new.sensor_id, new.timestamp, new.temperature, new.humidity)
        ctx.emit(reading, key=new.sensor_id, event_id=ctx.new_id(str(index)))
    return Accepted(Receipt(accepted=len(several)))


async def list_readings(
    sensor: SensorId,
    ctx: HttpContext[Services],
    *,
    from_: Moment = BEGIN,
    to: Moment = END,
    limit: Limit = 100,
) -> ReadingPage:
    """A page of what a sensor measured from a time on and before another."""
    since, until = max(from_, BEGIN), min(to, END)  # no client of a database takes year 1 with an offset
    rows = await ctx.services.readings.find(sensor, since, until, limit=limit + 1)
    views = [
        ReadingView(
            timestamp=row.timestamp,
            temperature=row.temperature,
            humidity=row.humidity,
            processed_at=row.processed_at,
        )
        for row in rows
    ]
    return ReadingPage(
        sensor_id=sensor, readings=views[:limit], next=views[limit].timestamp if len(views) > limit else None
    )
