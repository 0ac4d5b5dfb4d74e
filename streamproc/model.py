"""The nouns every part of the engine shares. Data only, no behaviour beyond construction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, dataclass_transform

import msgspec


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


Headers = Sequence[tuple[str, bytes | None]]


class Record(Protocol):
    """One record as the broker holds it.

    `timestamp` is in milliseconds since the Unix epoch; below 0 or None where the producer gave none.
    """

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Records(Sequence[Record]):
    """The records of a batch, in offset order; those who need one part of each take it as a column.

    A reader that can tell the columns at less cost than the records overrides what it knows better.
    """

    __slots__ = ("_records",)

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    @property
    def values(self) -> Sequence[bytes | None]:
        """The value of each."""
        return [record.value for record in self._records]

    @property
    def keys(self) -> Sequence[bytes | None]:
        """The key of each."""
        return [record.key for record in self._records]

    @property
    def offsets(self) -> Sequence[int]:
        """The offset of each."""
        return [record.offset for record in self._records]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]


class RecordBatch:
    """A run of records of one partition, in offset order, as fetched together.

    `start` is the position it was read from and `next_offset` the position after it: all that the log holds between
    the two is in it. Either may lie beyond the records' own offsets (compaction, transaction markers), and `records`
    may be empty. `nbytes` is roughly what the run holds in memory.
    """

    __slots__ = ("nbytes", "next_offset", "offsets", "partition", "records", "start")

    def __init__(
        self, partition: TopicPartition, records: Sequence[Record], *, start: int, next_offset: int, nbytes: int
    ) -> None:
        self.partition = partition
        self.start = start
        self.records = records if isinstance(records, Records) else Records(records)
        self.offsets = self.records.offsets
        self.next_offset = next_offset
        self.nbytes = nbytes


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, frozen=True, gc=False, rename="camel", tag_field="type"):
    """Base of typed events: `class OrderPlaced(Event, tag="order.placed")`.

    The tag, or the class's name without one, is the event type on the wire (JSON field `type`). Fields are camelCase
    there and snake_case here.
    """


Reason = Literal[
    "empty",
    "tombstone",
    "envelope",
    "base64",
    "json",
    "encoding",
    "too_large",
    "too_deep",
    "schema",
    "nul",
    "duplicate_key",
    "unknown_type",
]
"""Why a record could not become an event: a closed set, used as a metric label and as a dead letter's condition."""


class Poison:
    """A record that cannot become an event. `detail` says where (`... - at $.items[0].quantity`), not what it held."""

    __slots__ = ("detail", "event_type", "reason")

    def __init__(self, reason: Reason, detail: str, event_type: str = "other") -> None:
        self.reason = reason
        self.detail = detail
        self.event_type = event_type

    def __repr__(self) -> str:
        return f"Poison({self.reason!r}, {self.detail!r})"


class Decoded:
    """A record batch with what its records became, aligned. `ids` is empty where no record named its event."""

    __slots__ = ("batch", "events", "ids")

    def __init__(self, batch: RecordBatch, events: Sequence[Event | Poison], ids: Sequence[str]) -> None:
        self.batch = batch
        self.events = events
        self.ids = ids


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Returned by a function: call again after `after_s` seconds. Uses up an attempt, but is no error."""

    after_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """Returned by a function: this record can never succeed. It becomes a dead letter without a retry.

    `reason` is a short constant (a metric label and the dead letter's condition), `detail` is for people.
    """

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """Returned by a batch function: index in the batch -> what went wrong. What is not named succeeded."""

    by_index: Mapping[int, "RetryLater | Reject | BaseException"]


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed. `error` is the exception's type name, `message` and `stacktrace` are for people."""

    error: str
    message: str
    stacktrace: str = ""


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record to be produced. `partition` None leaves the choice to the producer (by key)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class PartitionStopped:
    """The client cannot read on in this partition; others go on. `detail` says what the person on call can do.

    It is asked for again from time to time, so that what has ended outside ends here, too.
    """

    partition: TopicPartition
    reason: Literal["offset_out_of_range", "oversized_record", "unreadable_batch", "not_authorized"]
    detail: str


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """One assigned partition as the engine sees it.

    Offsets: `committed` (last acknowledged commit), `done` (lowest unsettled), `admitted` (next to be read).
    `blocked` says why the partition is not read on, "" when it is, and `detail` what to do. `oldest_since` is the
    admission time of the oldest unsettled record, in seconds since the Unix epoch, 0 when there is none.
    """

    partition: TopicPartition
    epoch: int
    committed: int
    done: int
    admitted: int
    unsettled: int
    oldest_since: float
    blocked: str = ""
    detail: str = ""


SHORT_S = 64e-6
"""What takes less, in seconds, is in the first bucket of a histogram of durations."""


@dataclass(frozen=True, slots=True)
class FunctionSnapshot:
    """One function: records waiting, in calls and parked for a retry; `calls` is its histogram of call durations.

    `calls_running` is how many calls those are. Bucket i of a histogram counts values of less than 2**i records, or
    times `SHORT_S` (and, but for 0, at least half).
    """

    name: str
    waiting: int
    in_flight: int
    parked: int
    calls: Sequence[int]
    calls_sum_s: float
    calls_running: int = 0
    batch_records: Sequence[int] = ()
    batch_records_sum: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Frozen numbers of one pipeline, read by gauges, probes and the console."""

    partitions: Sequence[PartitionSnapshot] = ()
    functions: Sequence[FunctionSnapshot] = ()
    records: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(topic, event type, outcome) -> records; outcome is ok, filtered, retried, dead_lettered or skipped."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """condition -> acknowledged dead letters."""
    rereads: int = 0
    """Batches that did not begin where their partition stood; the reader was sent back."""
    in_flight_records: int = 0
    in_flight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HttpSnapshot:
    """Frozen numbers of the HTTP functions; `answers` has function -> status -> requests, `other` for no function."""

    functions: Sequence[FunctionSnapshot]
    answers: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class OutboxSnapshot:
    """Frozen numbers of a relay: events published and refused by this process, how many it last saw waiting.

    `active` says whether this process is the one that publishes.
    """

    published: int
    refused: int
    waiting: int
    active: bool


@dataclass(frozen=True, slots=True)
class ScheduleSnapshot:
    """Frozen numbers of a scheduler: firings this process claimed, by (schedule, state); when each is due next.

    Times are in seconds since the Unix epoch.
    """

    claimed: Mapping[tuple[str, str], int]
    next_at: Mapping[str, float]
