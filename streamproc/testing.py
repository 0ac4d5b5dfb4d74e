"""For authors of functions: run records and requests through an app with no broker and no waiting.

`run` is the real pipeline on the broker in memory, in virtual time: order, retries, limits and dead letters are those
of production, and a retry in an hour takes no time. It has an event loop of its own in a thread; open what is bound
to a loop in the app's `services`, not outside.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from streamproc import virtualtime
from streamproc.adapters.memory import Faults, MemoryBroker, MemoryConsumer, MemoryProducer, StoredRecord
from streamproc.adapters.memory_firings import MemoryFirings
from streamproc.app import App, Stream
from streamproc.context import BatchContext, CallLimits, Clocks, Context, Item, Run
from streamproc.core.ledger import Entry, Ledger
from streamproc.errors import ConfigError
from streamproc.model import Decoded, Event, OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.rows import Firing
from streamproc.schedule.declare import TaskDue
from streamproc.stream.deadletter import OURS
from streamproc.stream.decode import Decoder
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.stream.wrap import encode, wrap
from streamproc.testing_http import Response as Response
from streamproc.testing_http import request as request

EPOCH = 1_700_000_000.0
"""Seconds since the Unix epoch at which virtual time begins."""
START = datetime.fromtimestamp(EPOCH, UTC)
GROUP = "test"
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter; two are equal when reason and event id are."""

    reason: str
    event_id: object
    function: str = field(default="", compare=False)
    attempts: int = field(default=0, compare=False)
    message: str = field(default="", compare=False)
    record: StoredRecord | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `outcomes` counts records by (event type, outcome); `elapsed_s` is in virtual seconds."""

    outcomes: Mapping[tuple[str, str], int]
    dead_letters: Sequence[DeadLetter]
    emitted: Mapping[str, Sequence[StoredRecord]]
    elapsed_s: float

    def count(self, outcome: str) -> int:
        """How many records ended so: ok, retried (calls), dead_lettered or skipped."""
        return sum(count for (_, ended), count in self.outcomes.items() if ended == outcome)


class NoObserver:
    """An Observer that does not look."""

    def rebalanced(self, drain_s: float) -> None:
        """See the port."""

    def commit_failed(self, error: str) -> None:
        """See the port."""

    def topic_recreated(self, topic: str) -> None:
        """See the port."""

    def loop_lagged(self, seconds: float) -> None:
        """See the port."""

    def call_abandoned(self, function: str) -> None:
        """See the port."""


def envelope(event: Event | bytes, *, event_id: str = "", key: str = "") -> bytes:
    """An event (or its bytes) as a Lambda Kinesis record, the default format of a topic."""
    data = event if isinstance(event, bytes) else encode(event)
    value, _ = wrap(data, "kinesis", event_id=event_id, event_type="", key=key)
    return value


def task(app: App, schedule: str, fire_at: datetime = START) -> TaskDue:
    """The event that the function of a schedule gets when it is due. Raises ConfigError for a name that is none."""
    return app.schedule(schedule).event(schedule=schedule, fire_at=fire_at)


def _with_firings(app: App, records: Sequence[object]) -> App:
    """The app with firings in memory, of the tasks among the records."""
    firings = MemoryFirings()
    for one in records:
        if isinstance(one, TaskDue):
            firings.rows[one.schedule, one.fire_at] = Firing(one.schedule, one.fire_at, "due", one.fire_at)
    return replace(app, firings=lambda _: firings)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run may be given besides the app and its records. Times in seconds."""

    services: Any = None
    options: StreamOptions = field(default_factory=StreamOptions)
    key: Callable[[Any], str | None] = lambda _: None
    partitions: int = 1
    faults: Faults | None = None
    within_s: float = 30 * 86_400.0
    draw: Callable[[], float] = lambda: 0.5


async def run(app: App, records: Sequence[Event | bytes | OutRecord], **setup: Any) -> Result:
    """Runs an app on records until each is settled.

    A record is an event (see `task` for those of schedules), the bytes of one, or a whole OutRecord. Firings of
    schedules are kept in memory. `setup` are fields of `Setup`: `services` is what handlers see as `ctx.services`,
    `key` makes a record's key of an event. Raises TimeoutError when something is not settled after `within_s` virtual
    seconds.
    """
    return await asyncio.to_thread(lambda: virtualtime.run(_run(app, records, Setup(**setup))))


async def _run(app: App, records: Sequence[Event | bytes | OutRecord], setup: Setup) -> Result:
    app = _with_firings(app, records)
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(lambda: EPOCH + loop.time(), setup.faults)
    topic = setup.options.topics[0]
    for name in setup.options.topics:
        broker.create_topic(name, setup.partitions)
        broker.create_topic(setup.options.dead_letter_topic.format(topic=name), 1)
    emitter = _Emitter(broker)
    for number, record in enumerate(records):
        broker.append(_out_record(record, f"test-{number}", topic=topic, key=setup.key))
    around = Surroundings(
        consumer=MemoryConsumer(broker, group=GROUP, topics=setup.options.topics),
        producer=emitter,
        observer=NoObserver(),
        services=setup.services,
        group=GROUP,
        now=lambda: EPOCH + loop.time(),
        draw=setup.draw,
        tick=virtualtime.tick,
        wall=lambda: EPOCH + loop.time(),
    )
    pipeline = Pipeline(app.stream_functions, setup.options, around)
    running = asyncio.ensure_future(pipeline.run())
    await _until_settled(broker, pipeline, running, setup)
    snapshot = pipeline.snapshot()
    await pipeline.stop(1.0)
    await running
    outcomes: dict[tuple[str, str], int] = {}
    for (_, event_type, outcome), count in snapshot.records.items():
        outcomes[event_type, outcome] = outcomes.get((event_type, outcome), 0) + count
    letters = broker.records(setup.options.dead_letter_topic.format(topic=topic))
    decode = Decoder([function.event for function in app.stream_functions], setup.options, topic).decode
    emitted = {name: broker.records(name) for name in sorted(emitter.topics)}
    return Result(outcomes, [_dead_letter(record, decode) for record in letters], emitted, loop.time())


async def _until_settled(
    broker: MemoryBroker, pipeline: Pipeline, running: "asyncio.Future[None]", setup: Setup
) -> None:
    loop = asyncio.get_running_loop()
    group = broker.group(GROUP)
    ends = {partition: len(broker.log(partition)) for partition in broker.partitions(setup.options.topics)}
    while any(group.committed.get(partition, 0) < end for partition, end in ends.items()):
        if running.done():
            running.result()
        if loop.time() > setup.within_s:
            raise TimeoutError(f"not settled within {setup.within_s:g} s: {pipeline.snapshot().partitions}")
        await asyncio.sleep(LOOK_S)


class _Emitter(MemoryProducer):
    """Makes topics as they are written to, and remembers which were."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._known = {partition.topic for partition in broker.partitions(broker.topics())}
        self.topics: set[str] = set()

    async def _send(self, record: OutRecord) -> Any:
        if record.topic not in self._known:
            self._broker.create_topic(record.topic, 1)
            self.topics.add(record.topic)
        return await super()._send(record)


def _out_record(
    record: Event | bytes | OutRecord, event_id: str, *, topic: str, key: Callable[[Any], str | None]
) -> OutRecord:
    if isinstance(record, OutRecord):
        return record
    named = key(record) if isinstance(record, Event) else None
    value = envelope(record, event_id=event_id, key=named or "")
    return OutRecord(topic, value, None if named is None else named.encode())


def _dead_letter(record: StoredRecord, decode: Callable[[RecordBatch], Decoded]) -> DeadLetter:
    headers = {name: (value or b"").decode() for name, value in record.headers if name.startswith(OURS)}
    source = TopicPartition(headers[OURS + "topic"], int(headers[OURS + "partition"]))
    ids = decode(RecordBatch(source, [record], start=0, next_offset=1, nbytes=len(record.value or b""))).ids
    return DeadLetter(
        reason=headers[OURS + "condition"],
        event_id=ids[0] or f"{source.topic}/{source.partition}/{headers[OURS + 'offset']}",
        function=headers.get(OURS + "handler", ""),
        attempts=int(headers.get(OURS + "attempts", 0)),
        message=headers.get(OURS + "message", ""),
        record=record,
    )


async def invoke(app: App, event: Event | bytes, *, services: Any = None, function: str = "") -> object:
    """Calls the function of one event once, in this loop, and returns what it returned.

    `event` may be bytes: the event's JSON, or a record's whole value in any format. Raises ConfigError when it is no
    event of the app or several functions take it and none is named, and whatever the function raises.
    """
    app = _with_firings(app, [])
    entry = _entry(app, event)
    found = entry.events[0]
    if isinstance(found, Poison):
        raise ConfigError(f"this is no event of the app: {found.reason}: {found.detail}")
    declared = _function_for(app, found, function)
    now = asyncio.get_running_loop().time
    made = Run(
        declared.name,
        services,
        limits=CallLimits(declared.timeout_s, declared.max_retry_attempts),
        stream=StreamOptions(),
        clocks=Clocks(lambda: EPOCH + now(), virtualtime.tick),
    )
    if declared.batch_size:
        arguments: tuple[Any, Any] = ([found], BatchContext(made, made.tick(), [Item(entry, 0, 1)]))
    else:
        arguments = (found, Context(entry, 0, 1, made, made.tick()))
    if declared.is_async:
        return await declared.handler(*arguments)
    return await asyncio.to_thread(declared.handler, *arguments)


def _entry(app: App, event: Event | bytes) -> Entry:
    value = encode(event) if isinstance(event, Event) else event
    events = list(dict.fromkeys(function.event for function in app.stream_functions))
    record = StoredRecord(0, int(EPOCH * 1000), None, value)
    partition = TopicPartition("invoke", 0)
    batch = RecordBatch(partition, [record], start=0, next_offset=1, nbytes=len(value))
    decoded = Decoder(events, StreamOptions(format="auto"), partition.topic).decode(batch)
    return Ledger(partition, epoch=1, start=0).admit(decoded, now=EPOCH)


def _function_for(app: App, event: Event, name: str) -> Stream:
    takers = [
        function for function in app.stream_functions if function.event is type(event) and name in ("", function.name)
    ]
    if len(takers) == 1:
        return takers[0]
    event_type = type(event).__struct_config__.tag
    if not takers:
        raise ConfigError(f"no function {name or ''} takes {event_type}".replace("  ", " "))
    raise ConfigError(f"several functions take {event_type}: name one of {', '.join(f.name for f in takers)}")
