"""Faust: an agent on a topic, with its own models and codecs."""

import tempfile
from collections.abc import Callable
from typing import Any

import faust
import mode.loop
from faust.models.fields import StringField
from faust.serializers.codecs import loads

from bench.report import Meter, Task

BUFFER = 131_072


class Kinesis(faust.Record):
    schema_version: str = StringField(input_name="kinesisSchemaVersion")
    partition_key: str = StringField(input_name="partitionKey")
    sequence_number: str = StringField(input_name="sequenceNumber")
    data: str


class Envelope(faust.Record):
    kinesis: Kinesis
    event_id: str = StringField(input_name="eventID")


class SensorReading(faust.Record):
    sensor_id: str = StringField(input_name="sensorId")
    timestamp: str
    temperature: float
    humidity: float


class UserCreated(faust.Record):
    user_id: str = StringField(input_name="userId")


class Functions:
    """The functions by event type, and the work of calling the right one for an envelope."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._routes: dict[str, tuple[type[faust.Record], Callable[[Any], None]]] = {
            "sensor.reading": (SensorReading, self.on_reading),
            "user.created": (UserCreated, self.on_user),
        }

    def on_reading(self, reading: SensorReading) -> None:
        if reading.temperature > 30:
            self._meter.hot += 1

    def on_user(self, user: UserCreated) -> None:
        """Nothing to count."""

    def call(self, envelope: Envelope) -> None:
        event = loads("json|binary", envelope.kinesis.data.encode())  # base64, then JSON
        model, function = self._routes[event["type"]]
        function(model.from_data(event))


def main(task: Task, datadir: str) -> None:
    meter = Meter(task)
    call = Functions(meter).call
    app = faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        stream_buffer_maxsize=BUFFER,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=datadir,
    )

    @app.agent(app.topic(task.topic, value_type=Envelope))
    async def on_envelopes(stream: faust.StreamT[Envelope]) -> None:
        async for envelope in stream:
            call(envelope)
            meter.add(1)

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    mode.loop.use("uvloop")
    with tempfile.TemporaryDirectory() as folder:
        main(Task.from_arguments(), folder)
