"""A pipeline on the broker in memory whose parts a test can reach."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from streamproc import Event, Stream, virtualtime
from streamproc.adapters.memory import Faults, MemoryBroker, MemoryConsumer, MemoryProducer, StoredRecord
from streamproc.model import OutRecord, TopicPartition
from streamproc.ports import Producer
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.testing import EPOCH, NoObserver, envelope

T = TypeVar("T")
TOPIC = "events"
P0 = TopicPartition(TOPIC, 0)


class Ping(Event, tag="ping"):
    """An event."""

    n: int
    who: str = "a"


class Watcher(NoObserver):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.commit_errors: list[str] = []
        self.abandoned: list[str] = []
        self.when_abandoned: Callable[[], None] = lambda: None

    def commit_failed(self, error: str) -> None:
        """See the port."""
        self.commit_errors.append(error)

    def call_abandoned(self, function: str) -> None:
        """See the port."""
        self.abandoned.append(function)
        self.when_abandoned()


class Rig:
    """A broker with one topic of one partition, and one pipeline."""

    def __init__(
        self, functions: Sequence[Stream], faults: Faults | None, producer: Producer | None, options: dict[str, Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.broker = MemoryBroker(
            lambda: EPOCH + loop.time(), faults, record_bytes_max=options.pop("bytes_max", 10**6)
        )
        self.broker.create_topic(TOPIC, 1)
        self.broker.create_topic(f"{TOPIC}.dlq", 1)
        self.group = self.broker.group("test")
        self.watcher = Watcher()
        self.consumer = MemoryConsumer(self.broker, group="test", topics=[TOPIC])
        around = Surroundings(
            consumer=self.consumer,
            producer=producer or MemoryProducer(self.broker),
            observer=self.watcher,
            services=self,
            group="test",
            now=lambda: EPOCH + loop.time(),
            draw=lambda: 0.5,
            tick=virtualtime.tick,
            wall=lambda: EPOCH + loop.time(),
        )
        self.pipeline = Pipeline(functions, StreamOptions(topics=[TOPIC], **options), around)
        self.running: asyncio.Future[None] = asyncio.ensure_future(self.pipeline.run())

    def put(self, *numbers: int, key: bytes | None = None) -> None:
        """Writes pings."""
        for number in numbers:
            self.broker.append(OutRecord(TOPIC, envelope(Ping(number)), key, partition=0))

    @property
    def committed(self) -> int:
        """What the group has committed of the partition."""
        return self.group.committed.get(P0, 0)

    @property
    def handled(self) -> int:
        """How many pings were handled."""
        return self.pipeline.snapshot().records.get((TOPIC, "ping", "ok"), 0)

    def dead(self) -> list[StoredRecord]:
        """The dead letters."""
        return self.broker.records(f"{TOPIC}.dlq")

    async def until(self, condition: Callable[[], bool], within_s: float = 600.0) -> None:
        """Waits, in virtual time."""
        async with asyncio.timeout(within_s):
            while not condition():
                if self.running.done():
                    self.running.result()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def rig(
    *functions: Stream, faults: Faults | None = None, producer: Producer | None = None, **options: Any
) -> AsyncIterator[Rig]:
    """A running pipeline; it is stopped at the end if the test has not done so."""
    made = Rig(functions, faults, producer, options)
    try:
        yield made
        if not made.running.done():
            await made.pipeline.stop(1.0)
            await made.running
    finally:
        made.running.cancel()


def virtual(test: Callable[[], Coroutine[Any, Any, T]]) -> Callable[[], T]:
    """Runs a test in virtual time."""

    def run() -> T:
        return virtualtime.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
