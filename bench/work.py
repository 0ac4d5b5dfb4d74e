"""The work that loops by hand do for a record, as msgspec's documentation recommends. Needs msgspec only."""

from collections.abc import Callable
from typing import Any

import msgspec

from bench.report import Meter


class Kinesis(msgspec.Struct, rename="camel", gc=False):
    """What a Lambda Kinesis record holds; `data` is decoded from base64."""

    kinesis_schema_version: str
    partition_key: str
    sequence_number: str
    data: bytes


class Envelope(msgspec.Struct, gc=False):
    """A Lambda Kinesis record."""

    kinesis: Kinesis
    event_id: str = msgspec.field(name="eventID")


class SensorReading(msgspec.Struct, tag_field="type", tag="sensor.reading", rename="camel", gc=False):
    """A reading."""

    sensor_id: str
    timestamp: str
    temperature: float
    humidity: float


class UserCreated(msgspec.Struct, tag_field="type", tag="user.created", rename="camel", gc=False):
    """A new user."""

    user_id: str


class Work:
    """The functions by event type, and the work of calling the right one for a record's value."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.envelope = msgspec.json.Decoder(Envelope).decode
        self.event = msgspec.json.Decoder(SensorReading | UserCreated).decode
        self.routes: dict[type, Callable[[Any], None]] = {SensorReading: self._on_reading, UserCreated: self._on_user}

    def _on_reading(self, reading: SensorReading) -> None:
        if reading.temperature > 30:
            self.meter.hot += 1

    def _on_user(self, user: UserCreated) -> None:
        """Nothing to count."""

    def call(self, value: bytes) -> None:
        """Decodes the envelope and the event, and calls the function of its type."""
        event = self.event(self.envelope(value).kinesis.data)
        self.routes[type(event)](event)

    def call_opened(self, envelope: Envelope) -> None:
        """`call` for what a framework has decoded by then."""
        event = self.event(envelope.kinesis.data)
        self.routes[type(event)](event)
