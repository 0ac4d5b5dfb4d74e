"""Writes generated records to Kafka in large batches."""

import zlib
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaProducer

from bench.generate import Produced

BATCH_BYTES = 131_072
BATCH_RECORDS = 500


def nothing(_count: int) -> None:
    """A progress callback that shows nothing."""


async def publish(
    bootstrap: str,
    topic: str,
    records: Iterable[Produced],
    *,
    partitions: int,
    progress: Callable[[int], None] = nothing,
) -> None:
    """Writes records, those of a key to one partition in order; `progress` gets the number of records so far."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        waiting: dict[int, list[Produced]] = {number: [] for number in range(partitions)}
        count = 0
        for record in records:
            partition = zlib.crc32(record.key or b"") % partitions
            waiting[partition].append(record)
            if len(waiting[partition]) == BATCH_RECORDS:
                count += await _send(producer, topic, partition, waiting[partition])
                progress(count)
        for partition, rest in waiting.items():
            count += await _send(producer, topic, partition, rest)
        await producer.flush()
        progress(count)
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Produced]) -> int:
    batch = producer.create_batch()
    count = len(records)
    for record in records:
        if batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None:
            await producer.send_batch(batch, topic, partition=partition)
            batch = producer.create_batch()
            batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers)
    if batch.record_count():
        await producer.send_batch(batch, topic, partition=partition)
    records.clear()
    return count
