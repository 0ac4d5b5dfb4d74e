"""Writes generated records to Kafka in large batches."""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from bench.generate import Produced

BATCH_BYTES = 131_072
"""Of a record batch, unless so many records are asked for that they need more."""
RECORD_BYTES = 400


@dataclass(frozen=True, slots=True)
class Shape:
    """How records lie in a topic: so many in a record batch at most, compressed with `codec` ("": not)."""

    partitions: int = 4
    batch_records: int = 500
    codec: str = ""


def nothing(_count: int) -> None:
    """A progress callback that shows nothing."""


async def publish(
    bootstrap: str,
    topic: str,
    records: Iterable[Produced],
    *,
    shape: Shape,
    progress: Callable[[int], None] = nothing,
) -> None:
    """Writes records, those of a key to one partition in order; `progress` gets the number of records so far."""
    largest = max(BATCH_BYTES, RECORD_BYTES * shape.batch_records)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        max_batch_size=largest,
        max_request_size=2 * largest,
        compression_type=shape.codec or None,
    )
    await producer.start()
    try:
        waiting: dict[int, list[Produced]] = {number: [] for number in range(shape.partitions)}
        count = 0
        for record in records:
            partition = zlib.crc32(record.key or b"") % shape.partitions
            waiting[partition].append(record)
            if len(waiting[partition]) == shape.batch_records:
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
