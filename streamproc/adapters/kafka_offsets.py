"""What a person does to a group that is stopped: say where it goes on, or leave out what cannot be read.

The broker takes a commit from outside only while the group has no members, so neither can hit a running service.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import aiokafka
from aiokafka import errors
from aiokafka.protocol.fetch import FetchRequest

from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.adapters.kafka_tools import held, outside, partitions_of
from streamproc.errors import BrokerError, ConfigError
from streamproc.model import OutRecord, TopicPartition

READ_WITHIN_S = 10
FETCH_BYTES = 1_048_576
HEAD_BYTES = 27
"""Of a record batch, up to the difference between its first offset and its last."""

_UNREADABLE = (errors.CorruptRecordException, errors.RecordTooLargeError)

Where = int | Literal["earliest", "latest"]


class Moved(NamedTuple):
    """Where a group stands: `before` (None: it had no commit) and `after`. The log holds `begin` to `end` - 1."""

    topic: str
    partition: int
    before: int | None
    after: int
    begin: int
    end: int


class Skipped(NamedTuple):
    """Offsets `first` to `next` - 1 were left out; `letter` is where their dead letter lies."""

    topic: str
    partition: int
    first: int
    next: int
    before: int
    letter: str


async def set_offset(options: KafkaOptions, partition: TopicPartition, to: Where) -> Moved:
    """Makes the group go on at an offset. Raises ConfigError for an offset the log lacks or a group that runs."""
    async with outside(options, options.group_id) as consumer:
        theirs = await _checked(consumer, partition)
        begin, end = await _ends(consumer, theirs)
        after = {"earliest": begin, "latest": end}.get(to, to) if isinstance(to, str) else to
        assert isinstance(after, int)
        if not begin <= after <= end:
            raise ConfigError(f"{held(partition, begin, end)}, not {after}")
        before = await _commit(options, consumer, theirs, after)
        return Moved(*partition, before, after, begin, end)


async def skip(
    options: KafkaOptions, partition: TopicPartition, *, offset: int, reason: str, dead_letter_topic: str
) -> Skipped:
    """Leaves out the record batch that holds an offset, with a dead letter of its coordinates and the reason.

    The group must stand in that batch: what is before it is not left out by the way. What can be read is not left out
    at all. Raises ConfigError, BrokerError.
    """
    async with outside(options, options.group_id) as consumer:
        theirs = await _checked(consumer, partition)
        before = await consumer.committed(theirs)
        begin, end = await _ends(consumer, theirs)
        if not begin <= offset < end:
            raise ConfigError(f"{held(partition, begin, end)}, not {offset}")
        first, following = await _extent(consumer, theirs, offset)
        if before is None or not first <= before <= offset:
            raise ConfigError(
                f"the group stands at offset {before} of {partition.topic}-{partition.partition}, not in the batch from"
                f" {first} to {following - 1}: start it until it stops there"
            )
        await _commit(options, consumer, theirs, before)  # is the group stopped? before anything is written
        if await _can_be_read(consumer, theirs, before):
            raise ConfigError(
                f"the batch from {first} to {following - 1} of {partition.topic}-{partition.partition} can be read with"
                " these settings; to leave out what can be read, move the group: streamproc offsets set"
                f" {partition.topic} {partition.partition} {following}"
            )
        letter = await _write_letter(
            options, _coordinates(options, partition, before, following, reason), dead_letter_topic
        )
        await _commit(options, consumer, theirs, following)
        return Skipped(*partition, before, following, before, letter)


async def _checked(consumer: Any, partition: TopicPartition) -> aiokafka.TopicPartition:
    theirs = aiokafka.TopicPartition(*partition)
    known = await partitions_of(consumer, partition.topic)
    if theirs not in known:
        raise ConfigError(f"{partition.topic} has partitions 0 to {len(known) - 1}, not {partition.partition}")
    consumer.assign([theirs])
    return theirs


async def _ends(consumer: Any, theirs: aiokafka.TopicPartition) -> tuple[int, int]:
    begins, ends = await consumer.beginning_offsets([theirs]), await consumer.end_offsets([theirs])
    return begins[theirs], ends[theirs]


async def _commit(options: KafkaOptions, consumer: Any, theirs: aiokafka.TopicPartition, offset: int) -> int | None:
    """Commits from outside the group; returns the commit it replaced."""
    before: int | None = await consumer.committed(theirs)
    try:
        await consumer.commit({theirs: offset})
    except errors.CommitFailedError:
        raise ConfigError(
            f"group {options.group_id!r} is running: stop all its members first; one that was killed counts as running"
            f" for kafka.session_timeout_s = {options.session_timeout_s:g}"
        ) from None
    return before


async def _extent(consumer: Any, theirs: aiokafka.TopicPartition, offset: int) -> tuple[int, int]:
    """The first offset of the batch that holds an offset, and the offset after it; read from its head alone."""
    leader = consumer._client.cluster.leader_for_partition(theirs)
    request = FetchRequest(500, 1, FETCH_BYTES, 0, [(theirs.topic, [(theirs.partition, offset, FETCH_BYTES)])])
    response = await consumer._client.send(leader, request)
    raw: bytes = response.topics[0][1][0][-1] or b""
    while len(raw) >= HEAD_BYTES and raw[16] == 2:
        base, last = int.from_bytes(raw[:8]), int.from_bytes(raw[23:27])
        if offset <= base + last:
            return base, base + last + 1
        raw = raw[12 + int.from_bytes(raw[8:12]) :]
    return offset, offset + 1


async def _can_be_read(consumer: Any, theirs: aiokafka.TopicPartition, offset: int) -> bool:
    """Whether a service would read on from an offset."""
    consumer.seek(theirs, offset)
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            while await consumer.position(theirs) == offset:
                await consumer.getmany(theirs, timeout_ms=1_000, max_records=1)
    except TimeoutError:
        raise BrokerError(f"Kafka sent nothing of {theirs.topic}-{theirs.partition} for {READ_WITHIN_S} s") from None
    except errors.KafkaError as error:
        if not isinstance(error, _UNREADABLE):
            raise
        return False
    except Exception:  # whatever the bytes of a broken batch make of a parser
        return False
    return True


def _coordinates(
    options: KafkaOptions, partition: TopicPartition, first: int, following: int, reason: str
) -> list[tuple[str, bytes]]:
    from streamproc.stream.deadletter import OURS

    fields = {
        "topic": partition.topic,
        "partition": str(partition.partition),
        "offset": str(first),
        "offset.next": str(following),
        "group": options.group_id,
        "condition": "skipped",
        "message": reason,
        "first.failed.at": datetime.now(UTC).isoformat(),
    }
    return [(OURS + name, value.encode()) for name, value in fields.items()]


async def _write_letter(options: KafkaOptions, headers: list[tuple[str, bytes]], topic: str) -> str:
    producer = KafkaProducer(options)
    await producer.start()
    try:
        (error,) = await producer.send([OutRecord(topic, b"", None, headers)])
    finally:
        await producer.stop()
    if error is not None:
        raise BrokerError(f"the dead letter was not written, so nothing was skipped: {error}")
    return topic
