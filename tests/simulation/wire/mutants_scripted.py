"""Broken builds for the scenarios: each has the fault that one of them is about, which seeds would hardly come upon."""

import asyncio
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streamproc.adapters.kafka import KafkaConsumer
from streamproc.core.engine import Engine
from streamproc.core.lanes import Lanes, Work
from streamproc.errors import BrokerError
from streamproc.model import TopicPartition
from streamproc.stream.pipeline import Pipeline
from streamproc.stream.settle import Settler
from tests.simulation.instead import instead

LOG_BEGINS = 18
"""Where a log begins whose first records are gone."""


@contextmanager
def fences_before_it_drains() -> Iterator[None]:
    """The epoch ends first; the calls that end meanwhile count for nothing."""
    sound = Pipeline._give_up

    async def give_up(self: Pipeline, partitions: Any, within_s: float) -> bool:
        self.engine.revoke(list(partitions))
        return await sound(self, partitions, within_s)

    with instead(Pipeline, "_give_up", give_up):
        yield


@contextmanager
def never_looks_at_its_client() -> Iterator[None]:
    """A member takes it that the tasks of its client live as long as it does."""
    with instead(KafkaConsumer, "_check_client", lambda self: None):
        yield


@contextmanager
def drains_without_end() -> Iterator[None]:
    """A member gives its partitions up when all its calls have ended, and not before."""
    sound = Pipeline._give_up

    async def give_up(self: Pipeline, partitions: Any, within_s: float) -> bool:
        return await sound(self, partitions, inf)

    with instead(Pipeline, "_give_up", give_up):
        yield


@contextmanager
def never_lets_go_of_what_is_fenced() -> Iterator[None]:
    """A call of an epoch that has ended holds its key, or its partition's batches, for ever."""
    finish, report_batch = Lanes.finish, Engine.report_batch

    def finish_open(self: Lanes, work: Work) -> None:
        if work.entry.ledger.open:
            finish(self, work)

    def report_open_batch(self: Engine, function: Any, batch: Any, *others: Any) -> None:
        if any(work.entry.ledger.open for work in function.batcher.works(batch)):
            report_batch(self, function, batch, *others)

    with instead(Lanes, "finish", finish_open), instead(Engine, "report_batch", report_open_batch):
        yield


@contextmanager
def commits_for_ever() -> Iterator[None]:
    """A commit is repeated until it is taken, whatever becomes of its partition meanwhile."""

    async def commit(self: Settler, offsets: Mapping[TopicPartition, int]) -> None:
        await self._consumer.commit(offsets)
        self._engine.committed(offsets)

    async def finish(self: Settler, partitions: Any) -> None:
        """Waits for nothing."""

    with instead(Settler, "commit", commit), instead(Settler, "finish", finish):
        yield


@contextmanager
def polls_only_what_is_wanted() -> Iterator[None]:
    """Where nothing is to be read, nothing is polled."""
    sound = KafkaConsumer.poll

    async def poll(self: KafkaConsumer, partitions: Any, timeout_s: float, *, max_bytes: int) -> Any:
        return await sound(self, partitions, timeout_s, max_bytes=max_bytes) if partitions else []

    with instead(KafkaConsumer, "poll", poll):
        yield


@contextmanager
def takes_no_answer_for_an_acknowledgement() -> Iterator[None]:
    """A commit that is not answered in time counts as made."""
    sound = KafkaConsumer.commit

    async def commit(self: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        with suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(1.0):
                await sound(self, offsets)

    with instead(KafkaConsumer, "commit", commit):
        yield


@contextmanager
def opens_a_partition_only_once() -> Iterator[None]:
    """Where a partition begins is asked once; when nobody answers it is not read."""
    sound = KafkaConsumer._starts

    async def starts(self: KafkaConsumer, pending: Any, *others: Any, **named: Any) -> Any:
        try:
            return await sound(self, pending, *others, **named)
        except KafkaError:
            pending.clear()
            return {}, {}

    with instead(KafkaConsumer, "_starts", starts):
        yield


@contextmanager
def forgets_a_partition_that_was_silent() -> Iterator[None]:
    """A member that heard nothing for long does not ask again."""
    sound = KafkaConsumer.poll
    silent = False

    async def poll(self: KafkaConsumer, partitions: Any, timeout_s: float, *, max_bytes: int) -> Any:
        nonlocal silent
        silent = silent or self.silent_s() > 15.0
        return await sound(self, () if silent else partitions, timeout_s, max_bytes=max_bytes)

    with instead(KafkaConsumer, "poll", poll):
        yield


@contextmanager
def goes_on_where_the_log_begins() -> Iterator[None]:
    """An offset that is gone is reset."""
    sound = KafkaConsumer._stopped

    def stopped(self: KafkaConsumer, error: KafkaError) -> Any:
        if not isinstance(error, OffsetOutOfRangeError):
            return sound(self, error)
        self._begin(dict.fromkeys(error.args[0], LOG_BEGINS))
        return []

    with instead(KafkaConsumer, "_stopped", stopped):
        yield


@contextmanager
def takes_a_new_partition_for_a_new_topic() -> Iterator[None]:
    """`latest` holds for each partition when it is first seen."""
    sound = KafkaConsumer._first_starts

    async def first_starts(self: KafkaConsumer, partitions: Any, known: Set[str]) -> Any:
        return await sound(self, partitions, frozenset())

    with instead(KafkaConsumer, "_first_starts", first_starts):
        yield
