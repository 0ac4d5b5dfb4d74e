"""What a handler is given besides its event: where the record came from, and what it may use."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from streamproc.core.batcher import Batch
from streamproc.core.ledger import Entry
from streamproc.model import Event, Headers, OutRecord, Record
from streamproc.stream.options import StreamOptions
from streamproc.stream.wrap import encode, record_of

S = TypeVar("S")
"""The type of the application's services."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP_MAX = 253_402_214_400_000
"""9999-12-31T00:00Z in milliseconds since the Unix epoch: the last midnight that exists in every time zone."""


class Clocks(NamedTuple):
    """Seconds since the epoch, and seconds from anywhere, which are cheap to read."""

    now: Callable[[], float]
    tick: Callable[[], float]


class CallLimits(NamedTuple):
    """How long a call may take, in seconds, and how often it is tried again; -1: without end."""

    timeout_s: float
    retries_max: int = 0


class Run(Generic[S]):
    """What all calls of one function share: its name, services, limits, clocks and log.

    `now` is in seconds since the epoch; `tick` counts seconds from anywhere and is cheap to read. `stream` says how
    the input topics hold events.
    """

    __slots__ = ("log", "name", "now", "retries_max", "services", "stream", "tick", "timeout_s")

    def __init__(self, name: str, services: S, *, limits: CallLimits, stream: StreamOptions, clocks: Clocks) -> None:
        self.name = name
        self.services = services
        self.timeout_s, self.retries_max = limits
        self.stream = stream
        self.now, self.tick = clocks
        self.log = logging.getLogger(f"streamproc.functions.{name}")


class Item(msgspec.Struct, eq=False, gc=False):
    """One record of a call: its position, identity and raw parts, read when asked for.

    `attempt` is 1 for the first call. A Struct, because one is made for each call.
    """

    _entry: Entry
    _index: int
    attempt: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.topic}/{self.partition}/{self.offset}, attempt={self.attempt})"

    @property
    def event_id(self) -> str:
        """The producer's event id, or the record's position where the producer gave none."""
        return self._entry.event_id(self._index)

    @property
    def record(self) -> Record:
        """The record as the broker holds it."""
        record: Record = self._entry.batch.records[self._index]
        return record

    @property
    def topic(self) -> str:
        """The topic it was read from."""
        return self._entry.batch.partition.topic

    @property
    def partition(self) -> int:
        """The partition it was read from."""
        return self._entry.batch.partition.partition

    @property
    def offset(self) -> int:
        """Its offset in the partition."""
        return self._entry.batch.offsets[self._index]

    @property
    def key(self) -> bytes | None:
        """Its Kafka key."""
        return self.record.key

    @property
    def headers(self) -> Headers:
        """Its Kafka headers."""
        return self.record.headers

    @property
    def record_time(self) -> datetime:
        """The time the producer or the broker stamped it with: the beginning of 1970 where neither did.

        A stamp outside of the years 1970 to 9999 is the nearest that is not: some take microseconds for milliseconds.
        """
        return _EPOCH + timedelta(milliseconds=min(max(0, self.record.timestamp or 0), _STAMP_MAX))


class CallContext(Generic[S]):
    """What every context says of its call, whatever the trigger."""

    __slots__ = ()
    _run: Run[S]
    _started: float

    @property
    def function(self) -> str:
        """The name of the function."""
        return self._run.name

    @property
    def services(self) -> S:
        """What the application's `services` opened."""
        return self._run.services

    @property
    def now(self) -> datetime:
        """The time, by the clock the engine decides with."""
        return datetime.fromtimestamp(self._run.now(), UTC)

    @property
    def deadline(self) -> datetime:
        """When this call is cancelled."""
        run = self._run
        return datetime.fromtimestamp(run.now() + run.timeout_s - (run.tick() - self._started), UTC)


class _StreamContext(CallContext[S]):
    """What a context can do, whether its call has one event or many."""

    __slots__ = ()
    emitted: list[OutRecord] | None

    def event(self, event: Event, *, key: str, topic: str = "", event_id: str = "") -> OutRecord:
        """An event as a record of its topic (the first input topic when not given), for a store to put in the outbox.

        Row and event are then written in one transaction, and the event is published once that is committed. Give an
        `event_id` that a repeat of the call would give again. Raises HandlerError as `emit` does.
        """
        return record_of(event, self._run.stream, key=key, topic=topic, event_id=event_id)

    def emit(self, event: Event, *, topic: str, key: str | bytes | None = None) -> None:
        """Queues an event, as JSON. The broker acknowledges it before the record of this call settles.

        Raises HandlerError for a number that JSON has not: NaN or an infinity.
        """
        record = OutRecord(topic, encode(event), key.encode() if isinstance(key, str) else key)
        if self.emitted is None:
            setattr(self, "emitted", [record])  # noqa: B010  # a slot of the classes below
        else:
            self.emitted.append(record)


class Context(Item, _StreamContext[S], eq=False, gc=False):
    """The context of a call with one event. Valid until the function returns."""

    _run: Run[S]
    _started: float
    emitted: list[OutRecord] | None = None

    @property
    def is_last_attempt(self) -> bool:
        """Whether the record is a dead letter when this call fails, unless its age makes it one before."""
        return 0 <= self._run.retries_max < self.attempt

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the function and the record."""
        where = {
            "function": self._run.name,
            "event_id": self.event_id,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "attempt": self.attempt,
        }
        return logging.LoggerAdapter(self._run.log, where)


class BatchContext(_StreamContext[S]):
    """The context of a call with a batch of events; `records[i]` belongs to the i-th event."""

    __slots__ = ("_run", "_started", "emitted", "records")

    def __init__(self, run: Run[S], started: float, records: Sequence[Item]) -> None:
        self._run = run
        self._started = started
        self.records = records
        self.emitted: list[OutRecord] | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the function and how many records the call has."""
        return logging.LoggerAdapter(self._run.log, {"function": self._run.name, "records": len(self.records)})


class Items(Sequence[Item]):
    """The records of a batch, made when asked for."""

    __slots__ = ("_batch", "_flat")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._flat: list[Item] | None = None

    def _items(self) -> list[Item]:
        if self._flat is None:
            self._flat = [Item(work.entry, work.index, work.attempt) for work in self._batch.retried]
            self._flat += [Item(entry, index, 1) for entry, indexes in self._batch.parts for index in indexes]
        return self._flat

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: Any) -> Any:
        return self._items()[index]
