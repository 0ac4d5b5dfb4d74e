"""Small records, batches and entries for tests of the machines."""

from collections.abc import Callable, Iterable, Sequence

from streamproc.adapters.memory import StoredRecord
from streamproc.core.engine import Engine
from streamproc.core.ledger import Entry, Ledger
from streamproc.core.plan import FunctionPlan, Limits, Routed
from streamproc.core.retry import Retry
from streamproc.model import Decoded, Event, Poison, RecordBatch, TopicPartition

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)


class Thing(Event, tag="thing"):
    """An event."""

    n: int


def batch(
    offsets: Iterable[int],
    *,
    partition: TopicPartition = P0,
    start: int | None = None,
    next_offset: int | None = None,
    nbytes: int = 0,
) -> RecordBatch:
    """Records at these offsets, each with its offset for a key; read from `start`, or from the first of them."""
    records = [StoredRecord(offset, 0, b"%d" % offset, b"v") for offset in offsets]
    following = records[-1].offset + 1 if next_offset is None else next_offset
    begin = records[0].offset if start is None else start
    return RecordBatch(partition, records, start=begin, next_offset=following, nbytes=nbytes)


def decoded(raw: RecordBatch, ids: Sequence[str] = ()) -> Decoded:
    """A batch whose records all became things."""
    return Decoded(raw, [Thing(record.offset) for record in raw.records], ids)


def poisoned(raw: RecordBatch) -> Decoded:
    """A batch none of whose records became an event."""
    return Decoded(raw, [Poison("json", "bad") for _ in raw.records], ())


def entry(offsets: Iterable[int], *, partition: TopicPartition = P0, ledger: Ledger | None = None) -> Entry:
    """An entry of a ledger of its own, or of the one that is given."""
    raw = batch(offsets, partition=partition)
    book = ledger or Ledger(partition, epoch=1, start=raw.records[0].offset)
    return book.admit(decoded(raw), now=0.0)


def keys_by(key: Callable[[int], object]) -> Callable[[Entry, Sequence[int]], Sequence[object]]:
    """Lane keys as a function of the offset."""
    return lambda one, indexes: [key(one.batch.records[index].offset) for index in indexes]


def plan(
    key: Callable[[int], object] = lambda offset: offset,
    *,
    retry: Retry | None = None,
    batch_size: int | None = None,
    batch_window_s: float = 0.0,
    name: str = "take",
) -> FunctionPlan:
    """A function that takes things."""
    policy = retry or Retry(base_s=1.0, cap_s=1.0)
    return FunctionPlan(name, "thing", keys_by(key), policy, batch_size, batch_window_s)


def engine(*plans: FunctionPlan, limits: Limits | None = None, wall: float = 0.0) -> Engine:
    """An engine that owns P0 from offset 0; its dice always show the middle, its wall clock stands still."""
    made = Engine(plans or [plan()], limits or Limits(), lambda: 0.5, lambda: wall)
    made.assign({P0: 0})
    return made


def routed(raw: RecordBatch, *functions: int) -> Routed:
    """All records of a batch for these functions, by number; the first if none is given."""
    numbers = functions or (0,)
    indexes = range(len(raw.records))
    shared = dict.fromkeys(indexes, len(numbers)) if len(numbers) > 1 else {}
    return Routed(decoded(raw), [(number, indexes) for number in numbers], shared=shared)
