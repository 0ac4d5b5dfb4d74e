"""aiokafka without a framework: a loop around `getmany`, and lanes by hand for calls that wait."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from bench.report import Meter, Task

WORKERS = 1_000
QUOTA = 5_000
"""How many records of a partition may wait for a worker, so that no partition starves the keys of another."""
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
    """The functions by event type, and the work of calling the right one for a record."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._envelope = msgspec.json.Decoder(Envelope).decode
        self._event = msgspec.json.Decoder(SensorReading | UserCreated).decode
        self._routes: dict[type, Callable[[Any], None]] = {SensorReading: self.on_reading, UserCreated: self.on_user}

    def on_reading(self, reading: SensorReading) -> None:
        if reading.temperature > 30:
            self._meter.hot += 1

    def on_user(self, user: UserCreated) -> None:
        """Nothing to count."""

    def call(self, record: ConsumerRecord) -> None:
        event = self._event(self._envelope(record.value).kinesis.data)
        self._routes[type(event)](event)


async def batch(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    call = Functions(meter).call
    while not meter.done:
        polled = await consumer.getmany(timeout_ms=500)
        for records in polled.values():
            for record in records:
                call(record)
            meter.add(len(records))
        if polled:
            await consumer.commit()


async def latency(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    call = Functions(meter).call
    while not meter.done:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                meter.note(record.timestamp)
                call(record)
                meter.add(1)


async def waiting(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    """A lane for each key; workers take the next record of a lane that has none running. Commits nothing."""
    call = Functions(meter).call
    lanes: dict[bytes, deque[ConsumerRecord]] = {}
    ready: asyncio.Queue[bytes] = asyncio.Queue()
    waits: Counter[int] = Counter()
    room = {partition: asyncio.Event() for partition in consumer.assignment()}

    async def work() -> None:
        while True:
            key = await ready.get()
            lane = lanes[key]
            record = lane.popleft()
            meter.begin(key, record.offset)
            call(record)
            await asyncio.sleep(WAIT_S)
            meter.end(key)
            meter.add(1)
            waits[record.partition] -= 1
            if waits[record.partition] == QUOTA // 2:
                room[TopicPartition(record.topic, record.partition)].set()
            if lane:
                ready.put_nowait(key)
            else:
                del lanes[key]

    async def feed(partition: TopicPartition) -> None:
        while True:
            fetched = await consumer.getmany(partition, timeout_ms=500, max_records=QUOTA // 2)
            for record in fetched.get(partition, ()):
                lane = lanes.get(record.key)
                if lane is None:
                    lanes[record.key] = lane = deque()
                    ready.put_nowait(record.key)
                lane.append(record)
                waits[partition.partition] += 1
            if waits[partition.partition] > QUOTA // 2:
                room[partition].clear()
                await room[partition].wait()

    tasks = [asyncio.create_task(work()) for _ in range(WORKERS)] + [asyncio.create_task(feed(each)) for each in room]
    await asyncio.gather(*tasks)


async def main(task: Task) -> None:
    done = asyncio.Event()
    meter = Meter(task, on_done=done.set)
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=task.mode == "latency",
    )
    await consumer.start()
    try:
        running = asyncio.create_task(
            {"batch": batch, "waiting": waiting, "latency": latency}[task.mode](consumer, meter)
        )
        await asyncio.wait([running, asyncio.create_task(done.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main(Task.from_arguments()))
