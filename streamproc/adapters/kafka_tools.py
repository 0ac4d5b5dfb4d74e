"""What the commands ask of Kafka: look at records, compare offsets, send events. No group is joined."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import aiokafka
from aiokafka import errors

from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.adapters.kafka_inflate import Inflated, limit_inflation
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_reach import reach
from streamproc.errors import BrokerError, ConfigError
from streamproc.model import Headers, OutRecord, TopicPartition

REQUEST_TIMEOUT_MS = 10_000
SILENCE_MAX_S = 10
SENT_TOGETHER = 500


class StoredRecord(NamedTuple):
    """A record as it lies in a topic. `timestamp` is in milliseconds since the Unix epoch; None or -1 is none."""

    partition: TopicPartition
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers


class PartitionLag(NamedTuple):
    """How far a group has come; `committed` is None where it never committed, and `lag` is then all there is."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


async def newest(options: KafkaOptions, topic: str, *, limit: int) -> list[StoredRecord]:
    """The last records of a topic, oldest first. Raises BrokerError, also where there is no such topic."""
    async with outside(options) as consumer:
        partitions = await partitions_of(consumer, topic)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        starts = {partition: max(begins[partition], ends[partition] - limit) for partition in partitions}
        pending = {partition: ends[partition] for partition in partitions if starts[partition] < ends[partition]}
        consumer.assign(list(pending))
        for partition in pending:
            consumer.seek(partition, starts[partition])
        found = await read_until(consumer, pending)
    return sorted(found, key=lambda record: (record.timestamp or 0, record.partition, record.offset))[-limit:]


async def read_one(options: KafkaOptions, partition: TopicPartition, *, offset: int) -> StoredRecord:
    """The record at an offset. Raises ConfigError when there is none, BrokerError."""
    async with outside(options) as consumer:
        theirs = aiokafka.TopicPartition(*partition)
        if theirs not in await partitions_of(consumer, partition.topic):
            raise ConfigError(f"{partition.topic} has no partition {partition.partition}")
        begin = (await consumer.beginning_offsets([theirs]))[theirs]
        end = (await consumer.end_offsets([theirs]))[theirs]
        if begin <= offset < end:
            consumer.assign([theirs])
            consumer.seek(theirs, offset)
            for record in await read_until(consumer, {theirs: offset + 1}):
                if record.offset == offset:
                    return record
    raise ConfigError(f"{held(partition, begin, end)}, not {offset}")


def held(partition: TopicPartition, begin: int, end: int) -> str:
    """Says which offsets a partition holds."""
    found = f"offsets {begin} to {end - 1}" if begin < end else f"no record, and goes on at offset {end}"
    return f"{partition.topic}-{partition.partition} holds {found}"


async def lag(options: KafkaOptions, topics: Sequence[str]) -> list[PartitionLag]:
    """The lag of the group `options.group_id`, per partition. Raises BrokerError."""
    async with outside(options, group_id=options.group_id) as consumer:
        partitions = [one for topic in topics for one in await partitions_of(consumer, topic)]
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        found = []
        for one in partitions:
            committed = await consumer.committed(one)
            start = begins[one] if committed is None else committed
            found.append(PartitionLag(one.topic, one.partition, committed, ends[one], max(0, ends[one] - start)))
        return found


async def count_between(options: KafkaOptions, topics: Sequence[str], *, since: datetime, until: datetime) -> int:
    """How many records came to topics from a time on and before another, by their own times. Raises BrokerError.

    Counted from offsets: where a topic is compacted or written in transactions, it is at most so many.
    """
    async with outside(options) as consumer:
        partitions = [one for topic in topics for one in await partitions_of(consumer, topic)]
        ends = await consumer.end_offsets(partitions)

        async def first_from(moment: datetime) -> int:
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, int(moment.timestamp() * 1000)))
            return sum(ends[one] if found[one] is None else found[one].offset for one in partitions)

        return await first_from(until) - await first_from(since)


async def publish(options: KafkaOptions, topic: str, *, records: Iterable[OutRecord]) -> AsyncIterator[int]:
    """Sends records of one topic; yields how many more were acknowledged. Raises BrokerError."""
    async with outside(options) as consumer:
        await partitions_of(consumer, topic)
    producer = KafkaProducer(options)
    rest = iter(records)
    await producer.start()
    try:
        while batch := await asyncio.to_thread(lambda: list(islice(rest, SENT_TOGETHER))):
            failures = [error for error in await producer.send(batch) if error is not None]
            yield len(batch) - len(failures)
            if failures:
                raise BrokerError(f"{len(failures)} records were not acknowledged: {failures[0]}")
    finally:
        await producer.stop()


@asynccontextmanager
async def outside(options: KafkaOptions, group_id: str | None = None) -> AsyncIterator[Any]:
    """A consumer that is no member of the group whose name it has.

    Raises LoginRefused where it is not let in, BrokerError for what else it meets in the block.
    """
    await reach(options, within_s=REQUEST_TIMEOUT_MS / 1000)
    limit_inflation(options.inflated_bytes_max)
    consumer = aiokafka.AIOKafkaConsumer(
        **client_options(options),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=options.isolation_level,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        max_partition_fetch_bytes=options.partition_fetch_bytes_max,
    )
    try:
        await consumer.start()
        yield consumer
    except errors.KafkaError as error:
        raise unreachable(options, error) from error
    except (Inflated, UnicodeDecodeError) as error:
        raise BrokerError(f"a record cannot be read: {error}") from error
    finally:
        await consumer.stop()


async def partitions_of(consumer: Any, topic: str) -> list[aiokafka.TopicPartition]:
    """Returns all partitions of a topic. Raises BrokerError where there is no such topic."""
    if topic not in await consumer.topics():
        raise BrokerError(f"no such topic on the broker: {topic}; create it first")
    # The client knows the partitions of topics it was asked about, and every topic has a partition 0.
    await consumer.beginning_offsets([aiokafka.TopicPartition(topic, 0)])
    numbers = sorted(consumer.partitions_for_topic(topic) or ())
    return [aiokafka.TopicPartition(topic, number) for number in numbers]


async def read_until(consumer: Any, ends: Mapping[aiokafka.TopicPartition, int]) -> list[StoredRecord]:
    """What an assigned consumer gives of each partition, up to its end. Raises BrokerError when nothing comes."""
    found: list[StoredRecord] = []
    pending, silence_s = dict(ends), 0
    while pending:
        fetched = await consumer.getmany(*pending, timeout_ms=1000)
        for partition, records in fetched.items():
            found += [_stored(record) for record in records if record.offset < ends[partition]]
        for partition in list(pending):
            # Transaction markers have offsets and are no records: the position tells when the end is reached.
            if await consumer.position(partition) >= ends[partition]:
                del pending[partition]
        silence_s = 0 if fetched else silence_s + 1
        if silence_s >= SILENCE_MAX_S:
            raise BrokerError(f"Kafka sent nothing for {SILENCE_MAX_S} s, though there is more to read")
    return found


def _stored(record: Any) -> StoredRecord:
    partition = TopicPartition(record.topic, record.partition)
    return StoredRecord(partition, record.offset, record.timestamp, record.key, record.value, record.headers)
