"""FastStream with its Kafka broker on aiokafka, decoding with its msgspec serializer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import uvloop
from aiokafka import ConsumerRecord
from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy, Context, FastStream
from faststream.kafka import KafkaBroker

from bench.report import Meter, Task

WORKERS = 1_000
WAIT_S = 0.005


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


def record(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Functions(meter).call, meter.task

    @broker.subscriber(task.topic, group_id=task.group, auto_offset_reset="earliest")
    async def on_envelope(envelope: Envelope) -> None:
        call(envelope)
        meter.add(1)


def batch(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Functions(meter).call, meter.task

    @broker.subscriber(
        task.topic, group_id=task.group, auto_offset_reset="earliest", batch=True, ack_policy=AckPolicy.NACK_ON_ERROR
    )
    async def on_envelopes(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            call(envelope)
        meter.add(len(envelopes))


def waiting(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Functions(meter).call, meter.task

    @broker.subscriber(task.topic, group_id=task.group, auto_offset_reset="earliest", max_workers=WORKERS)
    async def on_envelope(
        envelope: Envelope, record: Annotated[ConsumerRecord, Context("message.raw_message")]
    ) -> None:
        meter.begin(record.key, record.offset)
        call(envelope)
        await asyncio.sleep(WAIT_S)
        meter.end(record.key)
        meter.add(1)


async def main(task: Task) -> None:
    broker = KafkaBroker(
        task.bootstrap,
        serializer=MsgSpecSerializer(),
        log_level=logging.DEBUG,  # or it logs two lines for each record
    )
    app = FastStream(broker)
    {"record": record, "batch": batch, "waiting": waiting}[task.mode](broker, Meter(task, on_done=app.exit))
    await app.run()


if __name__ == "__main__":
    uvloop.run(main(Task.from_arguments()))
