"""The log of a partition: real record batches, with what Apache Kafka checks, stamps and keeps beside them."""

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.simulation.wire.protocol import Code

HEAD = struct.Struct(">qiibIhiqqqhii")
"""base offset, length, leader epoch, format, CRC, attributes, last offset delta, first and largest timestamp,
producer id, producer epoch, base sequence, count (kafka.apache.org/documentation/#recordbatch)."""
CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, MAX_TIMESTAMP_AT = 17, 21, 23, 35
APPEND_TIME, TRANSACTIONAL, CONTROL, CODEC = 8, 16, 32, 7
ABORT, COMMIT = 0, 1
KEPT_BATCHES = 5
"""How many batches of a producer are remembered, to know them again."""
SEQUENCES = 2**31
Header = tuple[str, bytes | None]


@dataclass(slots=True)
class TopicConfig:
    """How a topic is set up. Times are in milliseconds."""

    record_bytes_max: int = 1_048_588
    append_time: bool = False
    ahead_ms_max: int = 3_600_000
    behind_ms_max: int = 2**63 - 1
    retention_ms: int = 7 * 86_400_000
    compacted: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it stands in the log. `visible` is False in a transaction that is open or aborted."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp: int
    visible: bool


class Batch:
    """A record batch in the log."""

    __slots__ = (
        "attributes",
        "base",
        "count",
        "first_timestamp",
        "last",
        "max_timestamp",
        "producer_epoch",
        "producer_id",
        "raw",
        "sequence",
    )

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head = HEAD.unpack_from(raw)
        self.base, self.attributes = head[0], head[5]
        self.last = self.base + head[6]
        self.first_timestamp, self.max_timestamp = head[7], head[8]
        self.producer_id, self.producer_epoch, self.sequence, self.count = head[9:]

    @property
    def is_control(self) -> bool:
        """Whether it is a transaction marker."""
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def last_sequence(self) -> int:
        """The sequence number of its last record."""
        return int((self.sequence + self.last - self.base) % SEQUENCES)

    def records(self) -> list[Any]:
        """Its records, as the client reads them."""
        return list(DefaultRecordBatch(self.raw))


class Producer:
    """What a partition remembers of a producer."""

    __slots__ = ("batches", "epoch", "first_open")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[tuple[int, int, int]] = deque(maxlen=KEPT_BATCHES)
        """First and last sequence number, and base offset."""
        self.first_open = -1
        """Where its open transaction begins."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """A transaction that was aborted, by the offsets of its first record and its marker."""

    producer_id: int
    first: int
    marker: int


class PartitionLog:
    """See the module's docstring."""

    def __init__(self, config: TopicConfig) -> None:
        self.config = config
        self.start = 0
        self.end = 0
        self.leader_epoch = 0
        self.batches: list[Batch] = []
        self.aborted: list[Aborted] = []
        self.producers: dict[int, Producer] = {}
        self._lasts: list[int] = []

    # writing

    def append(self, raw: bytes, now_ms: int) -> tuple[Code, int]:
        """Appends the one batch of a produce request. Returns an error, and the base offset.

        A batch that its producer has sent before is acknowledged with its old offset.
        """
        batch = self._read_sent(raw)
        if isinstance(batch, Code):
            return batch, -1
        if code := self._check_records(batch, now_ms):
            return code, -1
        if batch.producer_id >= 0:
            code, known = self._check_sequence(batch)
            if code or known is not None:
                return code, -1 if known is None else known
        base = self._write(bytearray(raw), now_ms if self.config.append_time else None)
        if batch.producer_id >= 0:
            self._remember(batch, base)
        return Code.NONE, base

    def _read_sent(self, raw: bytes) -> Batch | Code:
        if len(raw) < HEAD.size or len(raw) != 12 + int.from_bytes(raw[8:12]):
            return Code.INVALID_RECORD
        if len(raw) > self.config.record_bytes_max:
            return Code.MESSAGE_TOO_LARGE
        if raw[16] != 2 or calc_crc32c(raw[ATTRIBUTES_AT:]) != int.from_bytes(raw[CRC_AT:ATTRIBUTES_AT]):
            return Code.CORRUPT_MESSAGE
        batch = Batch(raw)
        return Code.INVALID_RECORD if batch.count <= 0 or batch.is_control else batch

    def _check_sequence(self, batch: Batch) -> tuple[Code, int | None]:
        known = self.producers.get(batch.producer_id)
        if known is None:
            return Code.NONE, None  # nothing is known of it, perhaps no more: any sequence is taken
        if batch.producer_epoch < known.epoch:
            return Code.INVALID_PRODUCER_EPOCH, None
        if batch.producer_epoch > known.epoch:
            return (Code.OUT_OF_ORDER_SEQUENCE_NUMBER if batch.sequence else Code.NONE), None
        for first, last, base in known.batches:
            if (first, last) == (batch.sequence, batch.last_sequence):
                return Code.NONE, base
        expected = (known.batches[-1][1] + 1) % SEQUENCES if known.batches else batch.sequence
        return (Code.NONE if batch.sequence == expected else Code.OUT_OF_ORDER_SEQUENCE_NUMBER), None

    def _check_records(self, batch: Batch, now_ms: int) -> Code:
        config = self.config
        if config.compacted and any(record.key is None for record in batch.records()):
            return Code.INVALID_RECORD
        if config.append_time:
            return Code.NONE
        if batch.max_timestamp - now_ms > config.ahead_ms_max:
            return Code.INVALID_TIMESTAMP
        if now_ms - batch.first_timestamp > config.behind_ms_max and batch.first_timestamp >= 0:
            return Code.INVALID_TIMESTAMP
        return Code.NONE

    def _write(self, raw: bytearray, append_ms: int | None = None) -> int:
        base = self.end
        struct.pack_into(">q", raw, 0, base)
        struct.pack_into(">i", raw, 12, self.leader_epoch)
        if append_ms is not None:
            raw[ATTRIBUTES_AT + 1] |= APPEND_TIME
            struct.pack_into(">q", raw, MAX_TIMESTAMP_AT, append_ms)
            _seal(raw)
        batch = Batch(bytes(raw))
        self.batches.append(batch)
        self._lasts.append(batch.last)
        self.end = batch.last + 1
        return base

    def _remember(self, batch: Batch, base: int) -> None:
        known = self.producers.get(batch.producer_id)
        if known is None:
            known = self.producers[batch.producer_id] = Producer(batch.producer_epoch)
        elif known.epoch != batch.producer_epoch:
            known.epoch = batch.producer_epoch
            known.batches.clear()
        known.batches.append((batch.sequence, batch.last_sequence, base))
        if batch.is_transactional and known.first_open < 0:
            known.first_open = base

    def mark(self, producer_id: int, epoch: int, now_ms: int, *, commit: bool) -> None:
        """Writes a transaction marker."""
        builder = DefaultRecordBatchBuilder(2, 0, 1, producer_id, epoch, -1, 1_000)
        key, value = struct.pack(">hh", 0, COMMIT if commit else ABORT), struct.pack(">hi", 0, 0)
        builder.append(0, now_ms, key, value, [])
        raw = bytearray(builder.build())
        raw[ATTRIBUTES_AT + 1] |= CONTROL
        _seal(raw)
        offset = self._write(raw)
        known = self.producers.setdefault(producer_id, Producer(epoch))
        if epoch != known.epoch:
            known.epoch = epoch
            known.batches.clear()
        if known.first_open >= 0 and not commit:
            self.aborted.append(Aborted(producer_id, known.first_open, offset))
        known.first_open = -1

    # reading

    @property
    def stable_end(self) -> int:
        """The last stable offset: the end, or where the first open transaction begins."""
        return min((one.first_open for one in self.producers.values() if one.first_open >= 0), default=self.end)

    def limit(self, *, committed: bool) -> int:
        """Where a reader must stop."""
        return self.stable_end if committed else self.end

    def read(self, offset: int, max_bytes: int, *, committed: bool, at_least_one: bool) -> bytes:
        """Returns batches from the one that holds `offset` on; the last one may be cut off in its middle."""
        limit = self.limit(committed=committed)
        index = bisect_right(self._lasts, offset - 1)
        parts: list[bytes] = []
        size = 0
        for batch in self.batches[index:]:
            if batch.base >= limit or (parts and size >= max_bytes):
                break
            parts.append(batch.raw)
            size += len(batch.raw)
        if not parts or (len(parts[0]) > max_bytes and not at_least_one):
            return b""
        return b"".join(parts)[: max(max_bytes, len(parts[0]))]

    def aborted_between(self, offset: int, end: int) -> list[tuple[int, int]]:
        """Producer ids and first offsets of the aborted transactions that a reader of these offsets must leave out."""
        return [(one.producer_id, one.first) for one in self.aborted if one.marker >= offset and one.first < end]

    def find(self, timestamp: int, *, committed: bool) -> tuple[int, int]:
        """Returns timestamp and offset of the first record at or after a time, or -1 for both."""
        limit = self.limit(committed=committed)
        for batch in self.batches:
            if batch.max_timestamp >= timestamp and batch.last >= self.start:
                for record in batch.records():
                    if record.timestamp >= timestamp and self.start <= record.offset < limit:
                        return record.timestamp, record.offset
        return -1, -1

    def records(self) -> Iterator[Stored]:
        """Yields what is in the log, without markers."""
        open_from = {one: known.first_open for one, known in self.producers.items() if known.first_open >= 0}
        for batch in self.batches:
            if batch.is_control:
                continue
            hidden = batch.is_transactional and (
                open_from.get(batch.producer_id, self.end) <= batch.base
                or any(
                    one.producer_id == batch.producer_id and one.first <= batch.base < one.marker
                    for one in self.aborted
                )
            )
            for record in batch.records():
                if record.offset >= self.start:
                    headers = tuple(record.headers)
                    yield Stored(record.offset, record.key, record.value, headers, record.timestamp, not hidden)

    # what becomes of old records

    def trim(self, offset: int) -> None:
        """Drops what is before an offset, as retention and DeleteRecords do."""
        self.start = max(self.start, min(offset, self.end))
        gone = bisect_right(self._lasts, self.start - 1)
        del self.batches[:gone], self._lasts[:gone]
        self.aborted = [one for one in self.aborted if one.marker >= self.start]

    def expire(self, now_ms: int) -> None:
        """Drops batches at the beginning that are older than the topic's retention."""
        for batch in list(self.batches):
            if now_ms - batch.max_timestamp <= self.config.retention_ms or batch.last >= self.stable_end:
                break
            self.trim(batch.last + 1)

    def compact(self, offsets: Sequence[int], *, keep_empty: bool = False) -> None:
        """Takes single records out, as compaction does. A batch keeps its bounds; an empty one goes unless kept."""
        gone = set(offsets)
        kept: list[Batch] = []
        for batch in self.batches:
            if batch.is_control or gone.isdisjoint(range(batch.base, batch.last + 1)) or batch.last >= self.stable_end:
                kept.append(batch)
                continue
            rewritten = _without(batch, gone)
            if rewritten.count or keep_empty:
                kept.append(rewritten)
        self.batches = kept
        self._lasts = [batch.last for batch in kept]


def batch_of(
    records: Sequence[tuple[bytes | None, bytes | None, Sequence[Header], int]],
    *,
    codec: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    transactional: bool = False,
) -> bytes:
    """Writes a batch of (key, value, headers, timestamp); `producer` is id, epoch and first sequence number."""
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), *producer, 2**31 - 1)
    for number, (key, value, headers, timestamp) in enumerate(records):
        builder.append(number, timestamp, key, value, list(headers))
    return bytes(builder.build())


def _without(batch: Batch, gone: set[int]) -> Batch:
    """A batch without some of its records."""
    producer = (batch.producer_id, batch.producer_epoch, batch.sequence)
    codec = batch.attributes & CODEC
    builder = DefaultRecordBatchBuilder(2, codec, int(batch.is_transactional), *producer, 2**31 - 1)
    left = [record for record in batch.records() if record.offset not in gone]
    for record in left:
        builder.append(record.offset - batch.base, record.timestamp, record.key, record.value, list(record.headers))
    raw = bytearray(builder.build()) if left else bytearray(batch.raw[: HEAD.size])
    raw[:8], raw[12:16] = batch.raw[:8], batch.raw[12:16]
    raw[8:12] = (len(raw) - 12).to_bytes(4)
    raw[ATTRIBUTES_AT:LAST_DELTA_AT] = batch.raw[ATTRIBUTES_AT:LAST_DELTA_AT]
    if not left:  # an empty batch is not compressed
        raw[ATTRIBUTES_AT + 1] &= ~CODEC & 0xFF
    struct.pack_into(">i", raw, LAST_DELTA_AT, batch.last - batch.base)
    struct.pack_into(">i", raw, HEAD.size - 4, len(left))
    if batch.attributes & APPEND_TIME:
        struct.pack_into(">q", raw, MAX_TIMESTAMP_AT, batch.max_timestamp)
    _seal(raw)
    return Batch(bytes(raw))


def _seal(raw: bytearray) -> None:
    """Writes the checksum anew."""
    struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
