"""FastStream with its Kafka broker on aiokafka, decoding with its msgspec serializer."""

import asyncio
import logging
from typing import Annotated

import uvloop
from aiokafka import ConsumerRecord
from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy, Context, FastStream
from faststream.kafka import KafkaBroker

from bench.report import Meter, Task
from bench.work import Envelope, Work

WORKERS = 1_000
WAIT_S = 0.005


def record(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Work(meter).call_opened, meter.task

    @broker.subscriber(task.topic, group_id=task.group, auto_offset_reset="earliest")
    async def on_envelope(envelope: Envelope) -> None:
        call(envelope)
        meter.add(1)


def batch(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Work(meter).call_opened, meter.task

    @broker.subscriber(
        task.topic, group_id=task.group, auto_offset_reset="earliest", batch=True, ack_policy=AckPolicy.NACK_ON_ERROR
    )
    async def on_envelopes(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            call(envelope)
        meter.add(len(envelopes))


def waiting(broker: KafkaBroker, meter: Meter) -> None:
    call, task = Work(meter).call_opened, meter.task

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
