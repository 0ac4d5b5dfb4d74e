"""Whole record batches out of aiokafka's fetch buffer, instead of one `ConsumerRecord` after the other.

aiokafka turns each record into a dataclass, which costs more than everything this package does with it. Here the
client keeps all its bookkeeping (fetching, positions, rebalances, transactions), and only the iterator that unpacks a
fetched partition is replaced: it yields a `RecordBatch` per batch of the log. Of a batch only the values are read, and
the keys where functions are ordered by them; the rest is read from its bytes again when somebody asks for a record.

Checksums are computed by google-crc32c, which uses the processor's instructions and is over ten times as fast as the
client's own. All this touches private names of aiokafka 0.14, so `install` does nothing for another version and the
caller reads records by the public way.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import aiokafka
import google_crc32c
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from streamproc.adapters.kafka_records import Joined, Unread
from streamproc.model import PartitionStopped, Record, RecordBatch, Records, TopicPartition

TESTED = "0.14."
LARGE_BYTES = 2_048
"""From this size on a batch is worth the calls that its faster checksum takes."""
CONSUMED_WITHIN_S = 0.002
"""How long the next fetch is put off for a partition whose data nobody has asked for yet."""
SHORT_WAIT_MS = 5
ASKED_S = 1.0
"""So long, and up to twice as long, a partition counts as wanted after a poll has asked for it."""
OVERHEAD_BYTES = 200
"""What a record holds in memory besides its bytes, about."""


def prepare(client: aiokafka.AIOKafkaConsumer, wanted: Collection[Any], *, max_bytes: int, now: float) -> None:
    """Begins a poll for `wanted`: its `getmany` takes `max_bytes` out of the client's buffer, the rest stays there.

    `now` is in seconds, by any clock.
    """
    client._fetcher._records.prepare(wanted, max_bytes, now)


def install(client: aiokafka.AIOKafkaConsumer, *, with_keys: bool) -> bool:
    """Makes `getmany` of a started, not yet subscribed consumer return batches; False if its version is not known.

    `with_keys` says that most batches' keys will be asked for.
    """
    if not aiokafka.__version__.startswith(TESTED):
        return False
    fetcher.MemoryRecords = _Log
    fetcher.FetchResult = _Result
    client._fetcher._records = _Buffer(client._fetcher, with_keys)
    client._fetcher._prefetch_backoff = CONSUMED_WITHIN_S
    return True


class _Log(MemoryRecords):  # type: ignore[misc]  # aiokafka is not typed
    """The bytes of a fetched partition, batch after batch: the client's own class, which keeps those of each batch.

    A batch, in bytes from its start: length from 12 on (8 to 12), format (16), CRC-32C (17 to 21) of all from 21 on
    (kafka.apache.org/documentation/#recordbatch).
    """

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._raw = raw
        self._next = 0
        self._format = b""

    def cut(self) -> "_Bytes":
        """The bytes of the batch that `next_batch` returns next."""
        start = self._next
        head = self._raw[start : start + 21]
        if head[16:17] != self._format:  # the client takes the format of the first batch for that of all: begin anew
            _Log.__init__(self, self._raw[start:])
            self._format, start = head[16:17], 0
        self._next = end = start + 12 + int.from_bytes(head[8:12])
        return _Bytes(head, self._raw[start + 21 : end])


class _Bytes:
    """A batch as the broker sent it: up to its checksum, and what that is of."""

    __slots__ = ("body", "head")

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body

    def __len__(self) -> int:
        return len(self.head) + len(self.body)

    def is_sound(self, batch: Any) -> bool:
        """Whether its checksum is right."""
        if len(self.body) < LARGE_BYTES or self.head[16] != 2 or google_crc32c.implementation != "c":
            return bool(batch.validate_crc())
        return bool(google_crc32c.value(self.body) == int.from_bytes(self.head[17:]))

    def records(self) -> list[Record]:
        """Its records."""
        return list(MemoryRecords(self.head + self.body).next_batch())


class _Result(FetchResult):  # type: ignore[misc]
    """What was fetched of a partition: the client's own class, which gives no more than what is left of a poll."""

    buffer: "_Buffer | None" = None
    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        if self.buffer is None:  # of another consumer, which reads record by record
            return list(super().getall(max_records))
        taken: list[RecordBatch | PartitionStopped] = []
        if self.buffer.left <= 0 or not self.check_assignment(self._topic_partition) or not self.has_more():
            return taken
        for item in self._partition_records:
            taken.append(item)
            self.buffer.left -= item.nbytes if isinstance(item, RecordBatch) else 0
            if self.buffer.left <= 0:
                break
        self._update_position()
        if self.buffer.left > 0:
            self._partition_records = None
        return taken


class _Buffer(OrderedDict[Any, Any]):
    """The fetcher's buffer, partition -> result: what is put in gets the iterator below.

    A broker answers one fetch at a time, and one with nothing to tell after the longest wait. So that a partition with
    data is not held up by those without, fetches do not wait while the buffer holds something that was asked for in the
    last second or two. What nobody asks for, of a partition that stands, may lie there for hours.
    """

    def __init__(self, fetcher: Any, with_keys: bool) -> None:
        super().__init__()
        self.left = 0
        self._asked: set[Any] = set()
        self._asked_before: set[Any] = set()
        self._turns_at = 0.0
        self._fetcher = fetcher
        self._with_keys = with_keys
        self._wait_ms = fetcher._fetch_max_wait_ms

    def __setitem__(self, partition: Any, result: Any) -> None:
        if type(result) is _Result:
            unpacked = result._partition_records
            unpacked._records_iterator = _batches(unpacked, self._with_keys)
            result.buffer = self
        super().__setitem__(partition, result)
        self._adjust()

    def __delitem__(self, partition: Any) -> None:
        super().__delitem__(partition)
        self._adjust()

    def clear(self) -> None:
        super().clear()
        self._adjust()

    def prepare(self, wanted: Collection[Any], max_bytes: int, now: float) -> None:
        """Begins a poll, as above."""
        self.left = max_bytes
        if now >= self._turns_at:
            self._asked_before, self._asked, self._turns_at = self._asked, set(), now + ASKED_S
        self._asked.update(wanted)
        self._adjust()

    def _adjust(self) -> None:
        is_wanted = any(one in self._asked or one in self._asked_before for one in self)
        self._fetcher._fetch_max_wait_ms = SHORT_WAIT_MS if is_wanted else self._wait_ms


def _batches(fetched: Any, with_keys: bool) -> Iterator[RecordBatch | PartitionStopped]:
    """The batches of a fetched partition; empty ones where the log holds markers or aborted records.

    What cannot be read is a value as well: an exception would take along what other partitions gave to the same poll.
    """
    partition = TopicPartition(*fetched._tp)
    log = fetched._records
    while log.has_next():
        try:
            raw, batch = log.cut(), log.next_batch()
            if fetched._check_crcs and not raw.is_sound(batch):
                raise CorruptRecordException("its checksum is wrong")
            records = None if _is_hidden(fetched, batch) else _unread(raw, batch, fetched.next_fetch_offset, with_keys)
        except Exception as error:  # whatever a codec, or the client for want of a check, may raise
            offset = fetched.next_fetch_offset
            what = f"the batch at offset {offset}: {type(error).__name__}: {error}"
            yield PartitionStopped(partition, "unreadable_batch", past(partition, offset, what))
            return
        start, fetched.next_fetch_offset = fetched.next_fetch_offset, batch.next_offset
        nbytes = _held_bytes(raw, batch, records) if records else 0
        yield RecordBatch(partition, records or (), start=start, next_offset=batch.next_offset, nbytes=nbytes)


def past(partition: TopicPartition, offset: int, what: str) -> str:
    """Says how to go past something in the log that cannot be read."""
    topic, number = partition
    return f'{what}; to leave it out, stop the group and run: streamproc skip {topic} {number} {offset} --reason "..."'


def _unread(raw: _Bytes, batch: Any, start: int, with_keys: bool) -> Records:
    """The records of a batch from offset `start` on."""
    if isinstance(batch, LegacyRecordBatch):  # of before Kafka 0.11: one record, or a compressed few
        return Records([record for record in batch if record.offset >= start])
    keys: list[bytes | None] | None = [] if with_keys else None
    values = [record.value for record in batch] if keys is None else _values_and(keys, batch)
    if batch.base_offset >= start and len(values) == batch.next_offset - batch.base_offset:
        return Unread(values, range(batch.base_offset, batch.next_offset), keys, read=raw.records)
    return Records([record for record in raw.records() if record.offset >= start])


def _values_and(keys: list[bytes | None], batch: Any) -> list[bytes | None]:
    values: list[bytes | None] = []
    add_value, add_key = values.append, keys.append
    for record in batch:
        add_value(record.value)
        add_key(record.key)
    return values


def _held_bytes(raw: _Bytes, batch: Any, records: Records) -> int:
    """What a batch and its events hold in memory, about: its bytes, the values, and what stands around them."""
    is_plain = isinstance(records, Unread) and not batch.compression_type
    in_values = len(raw) if is_plain else sum(map(len, filter(None, records.values)))
    return len(raw) + in_values + OVERHEAD_BYTES * len(records)


def _is_hidden(fetched: Any, batch: Any) -> bool:
    """Whether a batch is a transaction marker or belongs to an aborted transaction, as aiokafka decides it."""
    if fetched._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        fetched._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and _ends_aborted(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in fetched._aborted_producers:
            return True
    return bool(batch.is_control_batch)


def _ends_aborted(marker: Any) -> bool:
    """Whether a marker says that a transaction was aborted. Compaction may leave one without its record."""
    record = next(marker, None)
    return record is not None and bool(ControlRecord.parse(record.key) == ABORT_MARKER)


def size_of(records: Sequence[Any]) -> int:
    """Bytes a list of records holds in memory, about."""
    return sum(len(record.value or b"") for record in records) + OVERHEAD_BYTES * len(records)


def merge(
    batches: Sequence[RecordBatch | PartitionStopped], records_min: int
) -> Iterator[RecordBatch | PartitionStopped]:
    """Joins neighbours until they have `records_min` records: a producer without linger writes batches of one."""
    pending: list[RecordBatch] = []
    count = 0
    for batch in batches:
        if isinstance(batch, PartitionStopped):
            yield from map(_joined, [pending] if pending else [])
            yield batch
            return
        pending.append(batch)
        count += len(batch.offsets)
        if count >= records_min:
            yield _joined(pending)
            pending, count = [], 0
    if pending:
        yield _joined(pending)


def _joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return RecordBatch(
        batches[0].partition,
        Joined([batch.records for batch in batches]),
        start=batches[0].start,
        next_offset=batches[-1].next_offset,
        nbytes=sum(batch.nbytes for batch in batches),
    )
