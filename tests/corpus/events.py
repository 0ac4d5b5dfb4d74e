"""The event types the corpus is written for, equal in shape to those of the application."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc import Event, S3Event

Id = Annotated[str, Meta(min_length=1, max_length=200)]
YEAR_MIN, YEAR_MAX = 2000, 2099


class SensorReading(Event, tag="sensor.reading"):
    """A measurement: degrees Celsius, and relative humidity in per cent."""

    sensor_id: Id
    timestamp: Annotated[datetime, Meta(tz=True)]
    temperature: float
    humidity: float

    def __post_init__(self) -> None:
        if not YEAR_MIN <= self.timestamp.year <= YEAR_MAX:
            raise ValueError(f"timestamp is not in the years {YEAR_MIN} to {YEAR_MAX}")


class UserCreated(Event, tag="user.created"):
    """A user exists."""

    user_id: Id


class Item(msgspec.Struct, frozen=True, gc=False):
    """A line of an order."""

    sku: Id
    quantity: Annotated[int, Meta(ge=1)]


class OrderPlaced(Event, tag="order.placed"):
    """A user ordered something."""

    order_id: Id
    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]


EVENTS: list[type[Event]] = [SensorReading, UserCreated, OrderPlaced, S3Event]
