"""One consumer, one engine, one loop: a record's whole life. Read this first.

    poll -> decode -> route -> engine.admit        the intake         source.py, decode.py, route.py
    take -> call the function -> engine.report     the workers        execute.py
    engine.due -> dead letters, commits            the settler        settle.py

Giving partitions up (a rebalance, the end) is one drain, always in this order: stop intake, let what has begun end,
begin nothing more, commit what is finished, fence, release. What is not finished by the deadline is delivered again to
the next owner.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from streamproc.app import Stream
from streamproc.context import CallLimits, Clocks, Run
from streamproc.core.engine import Engine
from streamproc.core.ledger import Ledger
from streamproc.core.plan import Limits
from streamproc.errors import BrokerError, ConfigError, HandlerError, StoreError
from streamproc.model import Reason, RecordBatch, Snapshot, TopicPartition
from streamproc.ports import Consumer, Observer, Producer, RebalanceListener
from streamproc.stream.deadletter import DeadLetterOptions
from streamproc.stream.decode import Decoder
from streamproc.stream.execute import Executor, Parts
from streamproc.stream.options import StreamOptions
from streamproc.stream.route import Router, plan
from streamproc.stream.settle import Settler
from streamproc.stream.source import Source

log = logging.getLogger(__name__)

DRAIN_TICK_S = 0.005
TOLD_MAX = 10
"""Partitions that one line of the log names."""
WATCH_S = 0.1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pipeline is given from outside.

    `now` is in seconds since the epoch and never goes backwards; `wall` is the time of day, which may be set; `tick`
    counts seconds and times the calls.
    """

    consumer: Consumer
    producer: Producer
    observer: Observer
    services: Any
    group: str
    now: Callable[[], float]
    draw: Callable[[], float] = random.random
    mask: Callable[[str], str] = str
    tick: Callable[[], float] = perf_counter
    wall: Callable[[], float] = time.time


class Pipeline:
    """Runs the functions on what one consumer reads."""

    def __init__(self, functions: Sequence[Stream], options: StreamOptions, around: Surroundings) -> None:
        self._options = options
        self._around = around
        limits = Limits(
            partition_records=options.partition_records_max,
            total_bytes=options.in_flight_bytes_max,
            span=options.span_max,
            commit_interval_s=options.commit_interval_s,
        )
        self.engine = Engine([plan(function) for function in functions], limits, around.draw, around.wall)
        self._stages = {topic: _stages(functions, options, topic) for topic in options.topics}
        self._source = Source(
            around.consumer, self.engine, admit=self._admit, now=around.now, holds=self._holds_partitions
        )
        self._settler = Settler(
            self.engine,
            around.consumer,
            around.producer,
            letters=DeadLetterOptions(options.dead_letter_topic, options.dead_letter_headers, around.group),
            commit_timeout_s=options.commit_timeout_s,
            now=around.now,
            holds=self._holds_partitions,
            observer=around.observer,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._executors = self._make_executors(functions)
        self._failures_logged: dict[str, float] = {}
        self._stopped = asyncio.Event()

    def _make_executors(self, functions: Sequence[Stream]) -> list[Executor]:
        around = self._around
        parts = Parts(
            around.producer,
            around.observer,
            spawn=self._spawn,
            holds=self._holds_partitions,
            kick=self._settler.kick,
            failed=self._log_failure,
            mask=around.mask,
        )
        return [
            Executor(
                declared,
                function,
                engine=self.engine,
                run=Run(
                    declared.name,
                    around.services,
                    limits=CallLimits(declared.timeout_s, declared.max_retry_attempts),
                    stream=self._options,
                    clocks=Clocks(around.now, around.tick),
                ),
                parts=parts,
            )
            for declared, function in zip(functions, self.engine.functions, strict=True)
        ]

    async def run(self) -> None:
        """Until `stop` has ended it. Raises what made it impossible to go on; the partitions are released then, too."""
        await self._around.consumer.start(self._listener())
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                loops = [self._spawn(self._settler.run(self._wake_ready)), self._spawn(self._watch())]
                loops.append(self._spawn(self._source.run()))
                try:
                    await self._stopped.wait()
                finally:
                    for executor in self._executors:
                        executor.stop()
                    for task in loops:
                        task.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from group
        finally:
            for executor in self._executors:
                executor.close()
            await self._around.consumer.stop()

    def _listener(self) -> RebalanceListener:
        return RebalanceListener(
            revoked=self.revoked, assigned=self.assigned, recreated=self._around.observer.topic_recreated
        )

    def _holds_partitions(self) -> bool:
        """Whether the group surely holds the partitions for this member; if not, nothing more may begin."""
        return self._around.tick() < self._around.consumer.held_until()

    async def stop(self, grace_s: float) -> bool:
        """Drains and ends `run`. False when calls still ran after `grace_s` seconds: their records come again."""
        self._source.stopping = True
        drained = await self._give_up(list(self.engine.ledgers), grace_s)
        self._stopped.set()
        return drained

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        assert self._tasks is not None
        task: asyncio.Task[None] = self._tasks.create_task(coroutine)
        return task

    def _admit(self, batch: RecordBatch) -> None:
        decoder, router = self._stages[batch.partition.topic]
        routed = router.route(decoder.decode(batch))
        self.engine.admit(routed, self._around.now())
        for number, _ in routed.calls:
            self._executors[number].wake_if_ready()
        if routed.poison or any(self._executors[number].waits_for_time for number, _ in routed.calls):
            self._settler.kick()

    def _wake_ready(self) -> None:
        for executor in self._executors:
            executor.wake_if_ready()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time() + WATCH_S
            await asyncio.sleep(WATCH_S)
            self._around.observer.loop_lagged(loop.time() - asked)
            for executor in self._executors:
                executor.check()

    def assigned(self, starts: Mapping[TopicPartition, int]) -> None:
        """Called by the consumer: partitions came, with the offset each begins at."""
        log.info("assigned %d partitions", len(starts))
        self.engine.assign(starts)

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Called by the consumer: partitions are about to go, or are already lost."""
        if partitions:
            began = self._around.now()
            await self._give_up(partitions, self._options.drain_s)
            self._around.observer.rebalanced(self._around.now() - began)
            log.info("gave up %d partitions", len(partitions))

    async def _give_up(self, partitions: Collection[TopicPartition], within_s: float) -> bool:
        deadline = self._around.now() + within_s
        self.engine.drain(partitions)
        self._wake_ready()
        self._settler.kick()
        while (busy := self.engine.draining(partitions, deadline)) and self._around.now() < deadline:
            if not self._holds_partitions():  # they may be another member's by now: only what has begun may end
                self.engine.cease(partitions)
            await asyncio.sleep(DRAIN_TICK_S)
        finished = self.engine.finished(partitions)
        self.engine.cease(partitions)
        await self._settler.finish(partitions)
        self._tell_repeats(finished)
        self.engine.revoke(partitions)
        return not busy

    def _tell_repeats(self, finished: Mapping[Ledger, int]) -> None:
        """Says which records are handled again, because neither a commit nor a dead letter could be written."""
        again = [
            f"{one.partition.topic}/{one.partition.partition} from {one.committed} to {end - 1}"
            for one, end in finished.items()
            if one.open and end > one.committed
        ]
        if again:
            told = sorted(again)[:TOLD_MAX]
            if len(again) > TOLD_MAX:
                told.append(f"and {len(again) - TOLD_MAX} more partitions")
            log.warning("finished records could not be committed, and are handled again: %s", ", ".join(told))

    def _log_failure(self, function: str, error: BaseException) -> None:
        now = self._around.now()
        if now - self._failures_logged.get(function, 0.0) >= 1.0:
            self._failures_logged[function] = now
            # Texts of others may quote the record.
            detail = f": {error}" if isinstance(error, BrokerError | StoreError | HandlerError) else _where(error)
            log.warning("%s failed: %s%s", function, type(error).__name__, detail)

    def snapshot(self) -> Snapshot:
        """Frozen numbers."""
        return self.engine.snapshot()

    def trouble(self) -> str:
        """What keeps the consumer from reading that no partition shows, empty if nothing."""
        return self._around.consumer.trouble()

    def silent_s(self) -> float:
        """Seconds since Kafka last answered."""
        return self._around.consumer.silent_s()

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition, where known."""
        return self._around.consumer.end_offsets()


def _stages(functions: Sequence[Stream], options: StreamOptions, topic: str) -> tuple[Decoder, Router]:
    events = list(dict.fromkeys(function.event for function in functions if function.topic in (None, topic)))
    if not events:
        raise ConfigError(f"stream.topics names {topic!r}, but no function takes events of it")
    ignored: set[Reason] = set()
    if options.unknown_types == "ignore":
        ignored.add("unknown_type")
    if options.tombstones == "ignore":
        ignored.add("tombstone")
    return Decoder(events, options, topic), Router(functions, topic, frozenset(ignored))


def _where(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else f" at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _cause(first)
    return first
