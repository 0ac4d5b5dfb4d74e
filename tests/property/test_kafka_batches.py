"""Logs of all shapes, read by record batches and by the client's own iterator: both must find the same."""

import random
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import event, given
from hypothesis import strategies as st

from streamproc.adapters import kafka_batches
from streamproc.adapters.kafka_batches import merge
from streamproc.model import PartitionStopped, Record, RecordBatch, TopicPartition

PARTITION: Any = TopicPartition("events", 0)
PRODUCERS = st.sampled_from([7, 8])
LOG_APPEND_TIME, CONTROL = 0x08, 0x20
ABORT, COMMIT = 0, 1
NO_LIMIT = 10_000_000


class Found(NamedTuple):
    """A record as it was read."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def found(record: Record) -> Found:
    return Found(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))


class Written(NamedTuple):
    """A record to be written; its offset is `skipped` + 1 after that of the one before, as compaction leaves it."""

    skipped: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


TIMES = st.integers(0, 2**42) | st.integers(0, 50)
INCOMPRESSIBLE = st.integers(0, 3_000).map(lambda size: random.Random(size).randbytes(size))
BLOBS = st.none() | st.binary(max_size=8) | INCOMPRESSIBLE
HEADERS = st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=4)), max_size=4)
SKIPPED = st.sampled_from([0, 0, 0, 0, 1, 5])
RECORDS = st.lists(st.builds(Written, SKIPPED, TIMES, BLOBS, BLOBS, HEADERS), min_size=1, max_size=5) | st.builds(
    lambda record, count: [record._replace(skipped=0)] * count,
    st.builds(Written, SKIPPED, TIMES, st.none() | st.binary(max_size=8), st.binary(max_size=30), HEADERS),
    st.integers(1, 150),
)


def offsets_of(records: list[Written]) -> list[int]:
    """Their offsets from that of the batch on."""
    offsets, offset = [], -1
    for record in records:
        offset += record.skipped + 1
        offsets.append(offset)
    return offsets


def put(raw: bytearray, form: str, at: int, value: int) -> None:
    struct.pack_into(f">{form}", raw, at, value)


def sealed(raw: bytearray) -> bytes:
    """A batch of the present format with the right checksum."""
    put(raw, "I", 17, google_crc32c.value(bytes(raw[21:])))
    return bytes(raw)


class Placed(NamedTuple):
    """A batch in the log, from offset `first` to the one before `end`."""

    raw: bytes
    first: int
    end: int


@st.composite
def present(draw: st.DrawFn, base: int) -> Placed:
    """A batch as Kafka writes it since 0.11, also when compaction has taken some records or all."""
    is_transactional = draw(st.booleans())
    producer = draw(PRODUCERS) if is_transactional else draw(st.just(-1) | PRODUCERS)
    records: list[Written] = draw(RECORDS | st.just([]))
    codec = draw(st.integers(0, 4)) if records else 0
    builder = DefaultRecordBatchBuilder(2, codec, is_transactional, producer, 0, 0, NO_LIMIT)
    offsets = offsets_of(records)
    for offset, record in zip(offsets, records, strict=True):
        builder.append(offset, *record[1:])
    raw = bytearray(builder.build())
    last = (offsets[-1] if offsets else 0) + draw(SKIPPED)
    put(raw, "q", 0, base)
    put(raw, "i", 23, last)
    if draw(st.booleans()):
        put(raw, "h", 21, raw[22] | LOG_APPEND_TIME)
        put(raw, "q", 35, draw(TIMES))
    return Placed(sealed(raw), base, base + last + 1)


@st.composite
def marker(draw: st.DrawFn, base: int) -> Placed:
    """What ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, draw(PRODUCERS), 0, -1, NO_LIMIT)
    builder.append(0, draw(TIMES), struct.pack(">HH", 0, draw(st.sampled_from([ABORT, COMMIT]))), bytes(6), [])
    raw = bytearray(builder.build())
    put(raw, "q", 0, base)
    put(raw, "h", 21, raw[22] | CONTROL)
    return Placed(sealed(raw), base, base + 1)


@st.composite
def former(draw: st.DrawFn, base: int) -> Placed:
    """A message of the formats before: a record, or several compressed together."""
    version, codec = draw(st.sampled_from([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]))
    records: list[Written] = draw(RECORDS)
    records = records if codec else records[:1]
    offsets = offsets_of(records)
    last = base + offsets[-1]
    builder = LegacyRecordBatchBuilder(version, codec, NO_LIMIT)
    for offset, record in zip(offsets, records, strict=True):
        is_relative = version == 1 and codec
        builder.append(offset if is_relative else base + offset, record.timestamp, record.key, record.value)
    raw = bytearray(builder.build())
    put(raw, "q", 0, last)
    if version and draw(st.booleans()):
        put(raw, "b", 17, raw[17] | LOG_APPEND_TIME)
        put(raw, "q", 18, draw(TIMES))
        put(raw, "I", 12, zlib.crc32(raw[16:]))
    return Placed(bytes(raw), base + offsets[0], last + 1)


@dataclass
class Case:
    """A fetched log and how to read it."""

    raw: bytes
    start: int
    aborted: list[tuple[int, int]]
    isolation: int
    check_crcs: bool
    one_format: bool

    def fetched(self, log: Any) -> PartitionRecords:
        return PartitionRecords(PARTITION, log, self.aborted, self.start, None, None, self.check_crcs, self.isolation)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    batches: list[Placed] = []
    offset = draw(st.integers(0, 40) | st.just(2**40))
    kinds = draw(st.lists(st.sampled_from([present, present, present, marker, former]), min_size=1, max_size=5))
    for kind in kinds:
        batches.append(draw(kind(offset + draw(SKIPPED))))
        offset = batches[-1].end
    raw = bytearray(b"".join(batch.raw for batch in batches))
    first, last = batches[0], batches[-1]
    is_spoilt = draw(st.sampled_from([False, False, True]))
    if is_spoilt:
        in_last = st.sampled_from([len(raw) - len(last.raw) + byte for byte in (8, 11, 16, 17, 20, 22)])
        raw[draw(in_last | st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
    check_crcs = is_spoilt or draw(st.booleans())
    if not check_crcs:
        raw[17 if raw[16] == 2 else 12] ^= 1
    return Case(
        raw=bytes(raw[: draw(st.just(len(raw)) | st.integers(0, len(raw)))]),
        start=draw(st.just(first.first) | st.integers(max(0, first.first - 3), first.end - 1)),
        aborted=draw(st.lists(st.tuples(PRODUCERS, st.just(0) | st.integers(0, 60)), max_size=3)),
        isolation=draw(st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED])),
        check_crcs=check_crcs,
        one_format=not is_spoilt and len({batch.raw[16] for batch in batches}) == 1,
    )


class ByBatch:
    """The client's own log, begun anew with each batch: it takes the first batch's format for that of all."""

    def __init__(self, raw: bytes) -> None:
        self._rest = raw

    def has_next(self) -> bool:
        return bool(MemoryRecords(self._rest).has_next())

    def next_batch(self) -> Any:
        batch = MemoryRecords(self._rest).next_batch()
        self._rest = self._rest[12 + int.from_bytes(self._rest[8:12]) :]
        return batch


class Reference:
    """What the client's own iterator finds, up to the last batch that it can read as a whole."""

    def __init__(self, case: Case) -> None:
        self._log = MemoryRecords(case.raw) if case.one_format else ByBatch(case.raw)
        self._fetched = case.fetched(self)
        self.records: list[Found] = []
        self.is_stopped = False
        self.next_offset = case.start
        try:
            for record in self._fetched:
                self.records.append(found(record))
        except Exception:
            self.is_stopped = True
            del self.records[self._whole :]
        else:
            self.next_offset = self._fetched.next_fetch_offset

    def has_next(self) -> bool:
        return bool(self._log.has_next())

    def next_batch(self) -> Any:
        """Called by the iterator, which has finished the batch before."""
        self._whole, self.next_offset = len(self.records), self._fetched.next_fetch_offset
        return self._log.next_batch()


class Fetcher:
    """What of the client's fetcher the buffer sees."""

    _fetch_max_wait_ms = 500


def check_columns(batch: RecordBatch) -> None:
    """Columns first, since reading the records must not change them, and after."""
    for _ in range(2):
        values, keys, offsets = batch.records.values, batch.records.keys, list(batch.offsets)
        records = list(batch.records)
        assert [record.value for record in records] == list(values)
        assert [record.key for record in records] == list(keys)
        assert [record.offset for record in records] == offsets == list(batch.records.offsets)
        assert len(batch.records) == len(records)
    assert batch.partition == PARTITION
    assert bool(batch.nbytes) == bool(records)


def read(case: Case, with_keys: bool) -> tuple[list[RecordBatch | PartitionStopped], int]:
    """Batches, and where the next fetch begins."""
    fetched = case.fetched(kafka_batches._Log(case.raw))
    result = kafka_batches._Result(PARTITION, assignment=None, partition_records=fetched, backoff=0.0)
    kafka_batches._Buffer(Fetcher(), with_keys)[PARTITION] = result
    return list(fetched), fetched.next_fetch_offset


@given(case=cases(), with_keys=st.booleans(), at_least=st.sampled_from([1, 3, 10_000]))
def test_batches_hold_what_the_client_finds(case: Case, with_keys: bool, at_least: int) -> None:
    expected = Reference(case)
    unjoined, next_offset = read(case, with_keys)
    items = list(merge(unjoined, at_least))
    batches = [item for item in items if isinstance(item, RecordBatch)]
    for batch in batches:
        check_columns(batch)
    event(f"stopped: {expected.is_stopped}, one format: {case.one_format}, records: {bool(expected.records)}")
    assert [found(record) for batch in batches for record in batch.records] == expected.records
    assert [isinstance(item, PartitionStopped) for item in items] == [False] * len(batches) + [
        True
    ] * expected.is_stopped
    assert next_offset == expected.next_offset
    assert not batches or batches[-1].next_offset == next_offset
    assert all(len(batch.records) >= at_least for batch in batches[:-1])
    assert sum(batch.nbytes for batch in batches) == sum(
        item.nbytes for item in unjoined if isinstance(item, RecordBatch)
    )
