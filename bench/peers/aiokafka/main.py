"""aiokafka without a framework: a loop around `getmany`, and lanes by hand for calls that wait."""

import asyncio
import sqlite3
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from bench.report import Meter, Task
from bench.work import Work

WORKERS = 1_000
QUOTA = 5_000
"""How many records of a partition may wait for a worker, so that no partition starves the keys of another."""
WAIT_S = 0.005


async def batch(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    call = Work(meter).call
    while not meter.done:
        polled = await consumer.getmany(timeout_ms=500)
        for records in polled.values():
            for record in records:
                call(record.value)
            meter.add(len(records))
        if polled:
            await consumer.commit()


async def latency(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    call = Work(meter).call
    while not meter.done:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                meter.note(record.timestamp)
                call(record.value)
                meter.add(1)


CREATE = """
CREATE TABLE readings (event_id TEXT PRIMARY KEY, sensor_id TEXT, timestamp REAL, temperature REAL, humidity REAL,
deliveries INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID
"""
UPSERT = """
INSERT INTO readings (event_id, sensor_id, timestamp, temperature, humidity) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET deliveries = deliveries + 1
"""


async def sink(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    """Stores readings once per event id: a transaction for each poll, in a thread, then the commit."""
    work = Work(meter)

    def row(record: ConsumerRecord) -> tuple[object, ...]:
        opened = work.envelope(record.value)
        reading = work.event(opened.kinesis.data)
        stamp = datetime.fromisoformat(reading.timestamp).timestamp()
        return opened.event_id, reading.sensor_id, stamp, reading.temperature, reading.humidity

    def store(records: list[ConsumerRecord]) -> None:
        with database:
            database.executemany(UPSERT, map(row, records))

    database = sqlite3.connect(meter.task.report.parent / "by-hand.db", check_same_thread=False)
    database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {CREATE}")
    with ThreadPoolExecutor(1) as writer:
        while not meter.done:
            for partition, records in (await consumer.getmany(timeout_ms=500, max_records=1_000)).items():
                await asyncio.get_running_loop().run_in_executor(writer, store, records)
                await consumer.commit({partition: records[-1].offset + 1})
                meter.add(len(records))


async def waiting(consumer: AIOKafkaConsumer, meter: Meter) -> None:
    """A lane for each key; workers take the next record of a lane that has none running. Commits nothing."""
    call = Work(meter).call
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
            call(record.value)
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

    await asyncio.gather(*(work() for _ in range(WORKERS)), *map(feed, room))


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
            {"batch": batch, "sink": sink, "waiting": waiting, "latency": latency}[task.mode](consumer, meter)
        )
        await asyncio.wait([running, asyncio.create_task(done.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(main(Task.from_arguments()))
