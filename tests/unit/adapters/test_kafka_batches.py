"""Record batches out of bytes as a broker answers them, made by the client's own builder."""

from typing import Any

import google_crc32c
import pytest
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamproc.adapters import kafka_batches
from streamproc.adapters.kafka_batches import merge
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition

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


def read(raw: bytes, *, start: int = BASE, with_keys: bool = False) -> list[Any]:
    fetched = PartitionRecords(PARTITION, kafka_batches._Log(raw), [], start, None, None, True, 0)
    kafka_batches._Buffer(Fetcher(), with_keys)[PARTITION] = result(fetched)
    return list(fetched)


class Fetcher:
    """What of the client's fetcher the buffer sees."""

    _fetch_max_wait_ms = 500


def result(fetched: PartitionRecords) -> FetchResult:
    return FetchResult(PARTITION, assignment=None, partition_records=fetched, backoff=0.0)


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
    raw[17:21] = google_crc32c.value(bytes(raw[21:])).to_bytes(4, "big")
    (first, second) = read(bytes(raw) + log(SMALL, base=130), with_keys=with_keys)
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
    buffer[PARTITION] = result(fetched)
    assert fetcher._fetch_max_wait_ms < 50
    del buffer[PARTITION]
    assert fetcher._fetch_max_wait_ms == 500
    buffer[PARTITION] = result(fetched)
    buffer.clear()
    assert fetcher._fetch_max_wait_ms == 500


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
