"""Quix Streams: an application with a streaming data frame, decoding with msgspec."""

import tempfile
from collections.abc import Callable
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.models import JSONDeserializer

from bench.report import Meter, Task


class Kinesis(msgspec.Struct, rename="camel", gc=False):
    kinesis_schema_version: str
    partition_key: str
    sequence_number: str
    data: bytes  # msgspec decodes the base64


class Envelope(msgspec.Struct, gc=False):
    kinesis: Kinesis
    event_id: str = msgspec.field(name="eventID")


class SensorReading(msgspec.Struct, tag_field="type", tag="sensor.reading", rename="camel", gc=False):
    sensor_id: str
    timestamp: str
    temperature: float
    humidity: float


class UserCreated(msgspec.Struct, tag_field="type", tag="user.created", rename="camel", gc=False):
    user_id: str


class Functions:
    """The functions by event type, and the work of calling the right one for an envelope."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._event = msgspec.json.Decoder(SensorReading | UserCreated).decode
        self._routes: dict[type, Callable[[Any], None]] = {SensorReading: self.on_reading, UserCreated: self.on_user}

    def on_reading(self, reading: SensorReading) -> None:
        if reading.temperature > 30:
            self._meter.hot += 1

    def on_user(self, user: UserCreated) -> None:
        """Nothing to count."""

    def call(self, envelope: Envelope) -> None:
        event = self._event(envelope.kinesis.data)
        self._routes[type(event)](event)
        self._meter.add(1)


def main(task: Task, state_dir: str) -> None:
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=state_dir,
        loglevel="WARNING",
    )
    meter = Meter(task, on_done=app.stop)
    topic = app.topic(task.topic, value_deserializer=JSONDeserializer(loads=msgspec.json.Decoder(Envelope).decode))
    app.dataframe(topic).update(Functions(meter).call)
    app.run()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Task.from_arguments(), folder)
