"""Record batches out of bytes as a broker answers them, made by the client's own builder."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import google_crc32c
import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.consumer.fetcher import Fetcher as Poller
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from streamproc.adapters import kafka_batches
from streamproc.adapters.kafka_batches import merge
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition
from tests.simulation.instead import instead

SMALL, LARGE = 10, 400
BASE = 100
PARTITION: Any = TopicPartition("events", 0)


def log(*sizes: int, spoil: int | None = None, base: int = BASE, codec: int = 0) -> bytes:
    """Batches of these many records of 100 bytes from offset `base` on; `spoil` flips a byte near the end of one."""
    raw, offset = bytearray(), base
    for number, size in enumerate(sizes):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1_000_000)
        for index in range(size):
            builder.append(index, index, b"k%d" % index, b"%d" % index * 50, [("n", b"%d" % index)])
        batch = bytearray(builder.build())
        batch[0:8] = offset.to_bytes(8, "big")  # the base offset, which the broker writes
        if number == spoil:
            batch[-5] ^= 1
        raw += batch
        offset += size
    return bytes(raw)


def sealed(raw: bytearray) -> bytes:
    """A batch with the right checksum."""
    raw[17:21] = google_crc32c.value(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def of_one(record: bytes) -> bytes:
    """A batch of one record, given as bytes."""
    head = bytearray(log(1)[:61])
    head[8:12] = (49 + len(record)).to_bytes(4, "big")
    return sealed(head + record)


def former(version: int, codec: int, *, base: int) -> bytes:
    """Three records in a format of before Kafka 0.11: a message of each, or one of all when they are compressed."""
    builder = LegacyRecordBatchBuilder(version, codec, 1_000_000)
    for index in range(3):
        offset = index if version == 1 and codec else base + index
        builder.append(offset, index, b"k%d" % index, b"%d" % index * 50)
    raw = bytearray(builder.build())
    raw[0:8] = (base + 2 if codec else base).to_bytes(8, "big")
    return bytes(raw)


def read(raw: bytes, *, start: int = BASE, with_keys: bool = False, isolation: int = READ_UNCOMMITTED) -> list[Any]:
    fetched = PartitionRecords(PARTITION, kafka_batches._Log(raw), [(7, 0)], start, None, None, True, isolation)
    kafka_batches._Buffer(Fetcher(), with_keys)[PARTITION] = result(fetched)
    return list(fetched)


class Fetcher:
    """What of the client's fetcher the buffer sees."""

    _fetch_max_wait_ms = 500


class Assigned:
    """Where the client stands in a partition."""

    active, paused, position = True, False, BASE

    def state_value(self, _: Any) -> "Assigned":
        return self

    def consumed_to(self, offset: int) -> None:
        self.position = offset


def result(fetched: PartitionRecords, assigned: Assigned | None = None) -> kafka_batches._Result:
    return kafka_batches._Result(PARTITION, assignment=assigned, partition_records=fetched, backoff=0.0)


def test_batches_of_any_size_are_read() -> None:
    batches = read(log(SMALL, LARGE, SMALL))
    assert [(len(batch.records), batch.next_offset) for batch in batches] == [(10, 110), (400, 510), (10, 520)]
    assert batches[1].nbytes > 2 * sum(map(len, batches[1].records.values))
    assert batches[1].offsets == range(110, 510)


@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_what_is_not_read_at_once_is_read_when_asked_for(with_keys: bool, joined: bool) -> None:
    parts = read(log(SMALL, SMALL, LARGE), with_keys=with_keys)
    (batch,) = merge(parts, 10_000) if joined else parts[:1]
    numbers = [*range(SMALL), *range(SMALL), *range(LARGE)] if joined else list(range(SMALL))
    assert isinstance(batch, RecordBatch)
    records = batch.records
    assert len(records) == len(numbers)
    assert records.values == [b"%d" % n * 50 for n in numbers]
    assert records.keys == [b"k%d" % n for n in numbers]
    assert [record.timestamp for record in records] == numbers
    assert [record.value for record in records] == records.values
    assert list(records[3].headers) == [("n", b"3")]
    assert list(batch.offsets) == [record.offset for record in records] == list(range(BASE, BASE + len(numbers)))


@pytest.mark.parametrize("with_keys", [False, True])
def test_gaps_that_compaction_leaves_stay_gaps(with_keys: bool) -> None:
    raw = bytearray(log(SMALL))
    raw[23:27] = (29).to_bytes(4, "big")  # the last offset delta: the batch once had thirty records
    (first, second) = read(sealed(raw) + log(SMALL, base=130), with_keys=with_keys)
    assert (list(first.offsets), first.next_offset) == (list(range(100, 110)), 130)
    (batch,) = merge([first, second], 10_000)
    assert isinstance(batch, RecordBatch)
    assert list(batch.offsets) == [*range(100, 110), *range(130, 140)]
    assert [record.offset for record in batch.records] == list(batch.offsets)
    assert batch.records.keys == [b"k%d" % n for n in range(SMALL)] * 2


def test_fetches_wait_for_data_only_while_nothing_waits_to_be_consumed() -> None:
    """A broker answers one fetch at a time: else partitions without data would hold up one that has some."""
    fetcher = Fetcher()
    buffer = kafka_batches._Buffer(fetcher, False)
    fetched = PartitionRecords(PARTITION, kafka_batches._Log(log(SMALL)), [], BASE, None, None, True, 0)
    buffer.prepare([PARTITION], 1, 0.0)
    buffer[PARTITION] = result(fetched)
    assert fetcher._fetch_max_wait_ms < 50
    del buffer[PARTITION]
    assert fetcher._fetch_max_wait_ms == 500
    buffer[PARTITION] = result(fetched)
    buffer.clear()
    assert fetcher._fetch_max_wait_ms == 500


def test_what_nobody_asks_for_any_more_shortens_no_wait() -> None:
    fetcher = Fetcher()
    buffer = kafka_batches._Buffer(fetcher, False)
    buffer.prepare([PARTITION], 1, 0.0)
    buffer[PARTITION] = object()
    buffer.prepare([], 1, 1.5)
    assert fetcher._fetch_max_wait_ms < 50, "it may be held back for a moment only"
    buffer.prepare([], 1, 3.0)
    assert fetcher._fetch_max_wait_ms == 500
    buffer.prepare([PARTITION], 1, 3.1)
    assert fetcher._fetch_max_wait_ms < 50


@pytest.mark.parametrize(("max_bytes", "taken"), [(1, [1, 0, 0]), (10**9, [3, 1, 1])])
def test_a_poll_takes_no_more_than_it_is_told(max_bytes: int, taken: list[int]) -> None:
    """But for one batch; the rest stays in the client's buffer, whole, and its position with it."""
    client: Any = Fetcher()
    buffer = kafka_batches._Buffer(client, False)
    states = [Assigned(), Assigned(), Assigned()]
    results = []
    for number, raw in enumerate([log(SMALL, SMALL, SMALL), log(SMALL), log(SMALL)]):
        fetched = PartitionRecords(("events", number), kafka_batches._Log(raw), [], BASE, None, None, True, 0)
        buffer[number] = one = result(fetched, states[number])
        results.append(one)
    buffer.left = max_bytes
    assert [len(one.getall()) for one in results] == taken
    assert [state.position for state in states] == [BASE + SMALL * count for count in taken]
    rest = []
    while any(one.has_more() for one in results):
        buffer.left = 1
        rest += [item for one in results if one.has_more() for item in one.getall()]
    assert sum(taken) + len(rest) == 5
    assert [state.position for state in states] == [BASE + 3 * SMALL, BASE + SMALL, BASE + SMALL]


def test_null_keys_and_values() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for index, (key, value) in enumerate([(None, None), (b"", b""), (b"k", None)]):
        builder.append(index, 0, key, value, [])
    (batch,) = read(bytes(builder.build()), start=0, with_keys=True)
    assert (batch.records.keys, batch.records.values) == ([None, b"", b"k"], [None, b"", None])


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_compressed_batch_counts_with_what_it_becomes(codec: int) -> None:
    raw = log(LARGE, codec=codec)
    (batch,) = read(raw)
    assert len(raw) < 10_000 < batch.nbytes - len(raw) - 200 * LARGE == sum(map(len, batch.records.values))
    assert batch.records[399].key == b"k399"


@pytest.mark.parametrize("spoil", [0, 1])
def test_a_wrong_checksum_ends_the_partition_there(spoil: int) -> None:
    """A small batch is summed by the client, a large one by the faster library: both must find it."""
    batches = read(log(SMALL, LARGE, SMALL, spoil=spoil))
    assert [isinstance(batch, RecordBatch) for batch in batches] == [True] * spoil + [False]
    stopped = batches[-1]
    assert isinstance(stopped, PartitionStopped)
    assert stopped.reason == "unreadable_batch"
    assert f"at offset {(100, 110)[spoil]}" in stopped.detail


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    raw = log(LARGE, LARGE)
    assert [batch.next_offset for batch in read(raw[:-10])] == [500]


def test_reading_can_begin_within_a_batch() -> None:
    batches = read(log(LARGE), start=450)
    assert [batches[0].records[0].offset, batches[0].next_offset] == [450, 500]


def test_the_fast_checksum_is_there() -> None:
    """Without its compiled part it would be slower than the client's own, which is used then."""
    assert google_crc32c.implementation == "c"


def unreadable(kind: str) -> bytes:
    """A batch the client cannot read, though its checksum is right or not looked at before."""
    match kind:
        case "format":  # where a batch of now says that its last offset is 199, one of before has a negative length
            return log(200)[:16] + b"\x01" + log(200)[17:]
        case "length":  # of the key: 2 ** 63 - 1
            return of_one(b"\0\0\0\0" + b"\xfe" + b"\xff" * 8 + b"\x01" + b"\0\0")
        case "memory":  # 40 less
            return of_one(b"\0\0\0\0" + b"\xae" + b"\xff" * 8 + b"\x01" + b"\0\0")
        case "name":  # of a header, not UTF-8
            return of_one(b"\x12\0\0\0\x01\x01\x02\x02\xff\x01")
    raw = log(SMALL, codec=["", "gzip", "snappy", "lz4", "zstd"].index(kind))
    return sealed(bytearray(raw[:-20] + bytes(20)))


UNREADABLE = {
    "gzip": "EOFError",
    "snappy": "DecompressionError",
    "lz4": "DecompressionError",
    "zstd": "DecompressionError",
    "format": "SystemError",
    "length": "OverflowError",
    "memory": "MemoryError",
    "name": "UnicodeDecodeError",
}
"""What cannot be read -> what the client raises."""


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_what_cannot_be_read_takes_nothing_from_other_partitions(kind: str) -> None:
    """An exception would lose what the same poll has taken from partitions before, which counts as consumed."""
    client: Any = SimpleNamespace(_fetch_max_wait_ms=500, _notify=id, _wait_consume_future=None)
    client._subscriptions = SimpleNamespace(reassignment_in_progress=False)
    client._records = kafka_batches._Buffer(client, False)
    assigned = [Assigned(), Assigned(), Assigned()]
    for number, raw in enumerate([log(SMALL), unreadable(kind), log(LARGE)]):
        fetched = PartitionRecords(("events", number), kafka_batches._Log(raw), [], BASE, None, None, True, 0)
        client._records[number] = result(fetched, assigned[number])
    client._records.left = 10**9
    with instead(fetcher, "FetchResult", kafka_batches._Result):
        found = await Poller.fetched_records(client, ())
    assert [found[number][0].next_offset for number in (0, 2)] == [110, 500]
    assert [type(item) for item in found[1]] == [PartitionStopped]
    assert f"the batch at offset 100: {UNREADABLE[kind]}" in found[1][0].detail
    assert [state.position for state in assigned] == [110, 100, 500]


@pytest.mark.parametrize(("version", "codec"), [(0, 0), (0, 1), (1, 0), (1, 2)])
def test_former_formats_are_read_and_may_change_within_a_log(version: int, codec: int) -> None:
    """The client would take all batches to be of the first one's format."""
    raw = former(version, codec, base=103) + log(LARGE, base=106)
    for batches in (read(log(3) + raw), read(raw, start=104)):
        (batch,) = merge(batches, 10_000)
        assert isinstance(batch, RecordBatch)
        assert list(batch.offsets) == list(range(506))[-len(batch.records) :]
        assert [record.offset for record in batch.records] == list(batch.offsets)
        assert batch.records.keys[:-LARGE][-2:] == [b"k1", b"k2"]
        assert batch.nbytes > sum(map(len, batch.records.values)) + 200 * len(batch.records)


def test_a_spoilt_format_is_found_before_the_records_are_asked_for() -> None:
    """No checksum covers it: the values would be right and the records, read again on their own, would not."""
    raw = bytearray(log(SMALL, LARGE))
    raw[len(log(SMALL)) + 16] ^= 2
    (first, stopped) = read(bytes(raw))
    assert first.next_offset == 110
    assert isinstance(stopped, PartitionStopped)


@pytest.mark.parametrize("isolation", [READ_COMMITTED, READ_UNCOMMITTED])
def test_a_marker_whose_record_is_gone_says_nothing(isolation: int) -> None:
    """Compaction leaves the batch of a marker without its record, to keep what is known of the producer."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, -1, 1_000)
    marker = builder.build()
    marker[0:8] = BASE.to_bytes(8, "big")
    marker[21:27] = b"\0\x30\0\0\0\0"  # a transaction's marker, the last offset that of the batch
    (empty, batch) = read(sealed(marker) + log(SMALL, base=101), isolation=isolation)
    assert (len(empty.records), empty.next_offset, batch.next_offset) == (0, 101, 111)


@pytest.mark.parametrize("joined", [False, True])
def test_records_are_a_sequence(joined: bool) -> None:
    parts = read(log(SMALL, SMALL))
    (batch,) = merge(parts if joined else parts[:1], 10_000)
    assert isinstance(batch, RecordBatch)
    records = batch.records
    assert [record.offset for record in records[-3:-1]] == list(batch.offsets)[-3:-1]
    assert records[-1] is records[len(records) - 1]
    assert records.index(records[4]) == 4
    assert [record.offset for record in reversed(records)] == list(batch.offsets)[::-1]
    with pytest.raises(IndexError):
        records[len(records)]


def test_joining_nothing_but_empty_batches() -> None:
    empty = [RecordBatch(PARTITION, (), start=start, next_offset=end, nbytes=0) for start, end in ((1, 5), (5, 9))]
    (batch,) = merge(empty, 10_000)
    assert isinstance(batch, RecordBatch)
    assert (list(batch.offsets), list(batch.records), batch.start, batch.next_offset) == ([], [], 1, 9)
    assert (batch.records.values, batch.records.keys, bool(batch.records)) == ([], [], False)


def test_functions_in_threads_read_the_same_records() -> None:
    (batch,) = merge(read(log(LARGE, LARGE)), 10_000)
    assert isinstance(batch, RecordBatch)
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda index: batch.records[index].headers, range(2 * LARGE)))
    assert names == [[("n", b"%d" % n)] for n in range(LARGE)] * 2


def test_no_batch_keeps_the_whole_fetch() -> None:
    """Else one record that is retried for a day would hold up to max_partition_fetch_bytes."""
    raw = log(SMALL, LARGE) + former(1, 0, base=510) + log(SMALL, base=513)
    before = sys.getrefcount(raw)
    batches = read(raw, start=105)
    assert all(batch.records[0].key for batch in batches)
    assert sys.getrefcount(raw) == before
