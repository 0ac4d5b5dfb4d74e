"""`/readings`: sensors report, one reading or many at once."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.sensor_reading import SensorReading, check_year
from handlers.services import Services
from streamproc import Accepted, Answer, Body, HttpContext

READINGS_MAX = 10_000


class NewReading(Body):
    """A measurement: degrees Celsius, and relative humidity in percent."""

    sensor_id: Annotated[str, Meta(min_length=1, max_length=200)]
    timestamp: Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": "^20[0-9]{2}-"})]
    temperature: float
    humidity: float

    def __post_init__(self) -> None:
        check_year(self.timestamp)


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
