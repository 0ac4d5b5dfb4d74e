"""Records that are read when they are asked for."""

from streamproc.adapters.kafka_records import Joined, Unread
from streamproc.adapters.memory import StoredRecord
from streamproc.model import Record


class Batch:
    """Three records of which the values are known; `reads` counts how often the rest was read."""

    def __init__(self, first: int) -> None:
        self.reads = 0
        self._all = [StoredRecord(first + n, n, b"k%d" % n, b"v%d" % n) for n in range(3)]
        values = [record.value for record in self._all]
        self.records = Unread(values, range(first, first + 3), None, read=self._read)

    def _read(self) -> list[Record]:
        self.reads += 1
        return list(self._all)


def test_columns_are_told_without_reading() -> None:
    batch = Batch(10)
    assert (list(batch.records.values), list(batch.records.offsets)) == ([b"v0", b"v1", b"v2"], [10, 11, 12])
    assert (len(batch.records), batch.reads) == (3, 0)


def test_what_is_read_once_stays() -> None:
    batch = Batch(10)
    assert [record.timestamp for record in batch.records] == [0, 1, 2]
    assert (batch.records.keys, batch.reads) == ([b"k0", b"k1", b"k2"], 1)


def test_a_record_of_joined_batches_is_read_with_its_own_batch_alone() -> None:
    """One failure in a thousand must not make records of them all."""
    batches = [Batch(0), Batch(3), Batch(6)]
    joined = Joined([batch.records for batch in batches])
    assert (joined[4].offset, joined[-4].offset) == (4, 5)
    assert [batch.reads for batch in batches] == [0, 1, 0]
    assert [record.offset for record in joined[2:7:2]] == [2, 4, 6]
    assert [record.offset for record in joined] == list(range(9))
    assert [batch.reads for batch in batches] == [1, 1, 1]
