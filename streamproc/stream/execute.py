"""Stage 4: calls of one function. The one place where a user's exceptions are caught.

Workers live as long as the pipeline and take what is ready: no task, queue hop or timer per record. They are started
when there is work and nobody idle, up to the function's concurrency. Whoever brings work wakes one worker, which wakes
a second before it begins. The second gets its turn when the first waits in a call; if work is left then, calls do wait,
and it and those it wakes wake two more each: slow calls spread in a few turns of the loop, fast ones stay with one.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from streamproc.app import Stream
from streamproc.context import BatchContext, Context, Items, Run
from streamproc.core.batcher import Batch
from streamproc.core.engine import Engine, Outcome
from streamproc.core.function import Function
from streamproc.errors import HandlerError, RecordRefused, RecordTooLarge
from streamproc.model import SHORT_S, Failure, Failures, OutRecord, Reject
from streamproc.ports import Observer, Producer
from streamproc.stream.outcome import checked, checked_batch, failure

SLICE_S = 0.005
"""A worker whose calls never wait gives way to the rest of the loop this often."""


class Slot:
    """What a worker is doing, for the watchdog: since when its call runs (0: none), and whether it ran too long."""

    __slots__ = ("expired", "started", "task")

    def __init__(self) -> None:
        self.started = 0.0
        self.expired = False
        self.task: asyncio.Task[None] | None = None


class Executor:
    """The workers of one function. `spawn` starts a task, `report` is told when a call did not simply succeed."""

    def __init__(self, declared: Stream, function: Function, *, engine: Engine, run: Run[Any], parts: "Parts") -> None:
        self._declared = declared
        self._function = function
        self._engine = engine
        self._run = run
        self._parts = parts
        self._idle: list[asyncio.Future[int]] = []
        self._slots: list[Slot] = []
        self._stopping = False
        self._threads = None if declared.is_async else ThreadPoolExecutor(declared.concurrency_max, declared.name)
        self._call: Callable[..., Any] = declared.handler if declared.is_async else self._call_in_thread

    def wake(self, workers: int = 1, *, more: int = 1) -> None:
        """Lets up to so many workers look for work, starting them if need be; each wakes so many `more`."""
        for _ in range(workers):
            while self._idle:
                waiting = self._idle.pop()
                if not waiting.done():
                    waiting.set_result(more)
                    break
            else:
                self._start_worker(more)

    def wake_if_ready(self) -> None:
        """Wakes a worker when there is something to call the function with."""
        if self._parts.holds() and self._function.ready(self._run.now()):
            self.wake()

    def _start_worker(self, more: int) -> None:
        if len(self._slots) < self._declared.concurrency_max:
            slot = Slot()
            self._slots.append(slot)
            work = self._work_on_batches(slot) if self._declared.batch_size else self._work_on_records(slot, more)
            slot.task = self._parts.spawn(work)

    async def _wait_for_work(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        self._spread(await waiting)

    def _spread(self, workers: int) -> None:
        if self._parts.holds() and self._function.ready(self._run.now()) > 1:
            self.wake(workers, more=2)

    async def _work_on_records(self, slot: Slot, more: int) -> None:
        function, engine, run, call = self._function, self._engine, self._run, self._call
        lanes, calls, tick, holds = function.lanes, function.calls, self._run.tick, self._parts.holds
        self._spread(more)
        since = ended = tick()
        give_way_at = since + SLICE_S if holds() else 0.0
        while True:
            if not lanes.ready or ended > give_way_at:
                function.calls_sum_s += ended - since
                slot.started = 0.0
                await (asyncio.sleep(0) if lanes.ready and holds() else self._wait_for_work())
                since = ended = tick()
                give_way_at = since + SLICE_S if holds() else 0.0
                continue
            work = lanes.take()
            entry, index = work.entry, work.index
            slot.started = began = ended
            ctx = Context(entry, index, work.attempt, run, began)
            try:
                outcome = await call(entry.events[index], ctx)
                if outcome is not None or slot.expired:
                    outcome = self._checked(slot, outcome)
            except BaseException as error:
                outcome = self._failed(slot, error)
            if outcome is None and ctx.emitted:
                slot.started = 0.0
                outcome = await self._emit(ctx.emitted, 1)
            if outcome is None:
                lanes.finish(work)
            else:
                engine.report(function, work, outcome, run.now())
                self._parts.kick()
            ended = tick()
            if ended - began < SHORT_S:
                calls[0] += 1
            else:
                calls[int((ended - began) / SHORT_S).bit_length()] += 1

    async def _work_on_batches(self, slot: Slot) -> None:
        function, engine, run = self._function, self._engine, self._run
        since = run.tick()
        while True:
            batch = function.batcher.take(run.now()) if self._parts.holds() else None
            if batch is None:
                await self._wait_for_work()
                since = run.tick()
                continue
            self._wake_another()
            began = run.tick()
            outcomes = await self._call_batch(slot, batch)
            ended = run.tick()
            function.called(ended - began, len(batch))
            engine.report_batch(function, batch, outcomes, run.now())
            if outcomes or self.waits_for_time:
                self._parts.kick()
            if ended > since + SLICE_S:
                await asyncio.sleep(0)
                since = run.tick()

    def _wake_another(self) -> None:
        if self._function.ready(self._run.now()):
            self.wake()

    async def _call_batch(self, slot: Slot, batch: Batch) -> Mapping[int, Outcome] | None:
        events = [work.entry.events[work.index] for work in batch.retried]
        for entry, indexes in batch.parts:
            taken = entry.events
            if isinstance(indexes, range):
                events += taken[indexes.start : indexes.stop]
            else:
                events += [taken[index] for index in indexes]
        slot.started = self._run.tick()
        ctx = BatchContext(self._run, slot.started, Items(batch))
        outcome: object = None
        try:
            outcome = await self._call(events, ctx)
            slot.started = 0.0
            found = self._checked_batch(slot, outcome, len(events))
        except BaseException as error:
            found = dict.fromkeys(range(len(events)), self._failed(slot, error))
        if ctx.emitted and (found is None or isinstance(outcome, Failures)):
            refused = await self._emit(ctx.emitted, len(events))
            if refused is not None:
                return dict.fromkeys(range(len(events)), refused)
        return found

    def _checked(self, slot: Slot, returned: object) -> Outcome:
        return self._expired(slot) if slot.expired else self._told(checked(returned, self._parts.mask))

    def _checked_batch(self, slot: Slot, returned: object, size: int) -> dict[int, Outcome] | None:
        if slot.expired:
            return dict.fromkeys(range(size), self._expired(slot))
        found = checked_batch(returned, size, self._parts.mask)
        for outcome in (found or {}).values():
            self._told(outcome)
        return found

    def _told(self, outcome: Outcome) -> Outcome:
        """The outcome; what the author of the function must mend is said of it."""
        if isinstance(outcome, Failure) and outcome.error == HandlerError.__name__:
            self._parts.failed(self._declared.name, HandlerError(outcome.message))
        return outcome

    def _failed(self, slot: Slot, error: BaseException) -> Failure:
        """What an exception means. A worker that is stopped ends, whatever its call made of the cancellation."""
        slot.started = 0.0
        if self._stopping:
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError) and slot.expired:
            return self._expired(slot)
        self._revive(slot)
        self._parts.failed(self._declared.name, error)
        return failure(error, self._parts.mask)

    @staticmethod
    def _revive(slot: Slot) -> None:
        """Forgets that the call was cancelled: the worker goes on, and the next call must not look cancelled."""
        slot.expired = False
        while slot.task is not None and slot.task.cancelling():
            slot.task.uncancel()

    def _expired(self, slot: Slot) -> Failure:
        if self._stopping:
            raise asyncio.CancelledError
        self._revive(slot)
        error = TimeoutError(f"the call ran over timeout_s={self._declared.timeout_s:g}")
        self._parts.failed(self._declared.name, error)
        return Failure("TimeoutError", str(error))

    async def _emit(self, records: list[OutRecord], size: int) -> Failure | Reject | None:
        """Sends what a call of `size` records emitted. What the broker will never take needs no further attempt.

        Of a batch it is not known which record is to blame: it is tried again, and as each of its keys waits a time of
        its own, the one to blame is alone sooner or later.
        """
        try:
            results = await self._parts.producer.send(records)
        except Exception as error:
            self._parts.failed(self._declared.name, error)
            return failure(error, self._parts.mask)
        refused = [(why, record) for why, record in zip(results, records, strict=True) if why is not None]
        if not refused:
            return None
        for_good = [one for one in refused if isinstance(one[0], RecordRefused)]
        why, record = (for_good or refused)[0]
        self._parts.failed(self._declared.name, why)
        detail = f"{len(refused)} of {len(records)} emitted events were refused: {why}"
        if not for_good:
            return Failure("BrokerError", detail)
        detail = f"{detail} ({len(record.value or b'')} bytes)"
        if size > 1:
            return Failure(type(why).__name__, f"{detail}; these are the events of a batch of {size} records")
        return Reject("emitted_too_large" if isinstance(why, RecordTooLarge) else "emitted_refused", detail)

    async def _call_in_thread(self, event: Any, ctx: Any) -> Any:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        return await loop.run_in_executor(self._threads, context.run, self._call_now, event, ctx)

    def _call_now(self, event: Any, ctx: Any) -> Any:
        try:
            return self._declared.handler(event, ctx)
        except StopIteration as error:  # which no future takes: whoever waits for it would wait for ever
            raise RuntimeError("the function raised StopIteration") from error

    @property
    def waits_for_time(self) -> bool:
        """Whether what was admitted may have to wait for its batch's window."""
        return self._declared.batch_window_s > 0

    def stop(self) -> None:
        """Ends the workers, also those whose call swallows its cancellation or turns it into another error."""
        self._stopping = True
        for slot in self._slots:
            slot.expired = True
            if slot.task is not None:
                slot.task.cancel()

    def check(self) -> None:
        """Ends the calls that ran too long; one in a thread goes on, holds its place, and fails when it returns."""
        overdue = self._run.tick() - self._declared.timeout_s
        for slot in self._slots:
            if slot.started and not slot.expired and slot.started <= overdue:
                slot.expired = True
                if self._threads is None and slot.task is not None:
                    slot.task.cancel()
                else:
                    self._parts.observer.call_abandoned(self._declared.name)

    def close(self) -> None:
        """Lets go of the threads; a call that still runs in one is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the executors of a pipeline share.

    `failed` is told of each call that failed, with the function's name. While `holds` says no, no call begins.
    """

    producer: Producer
    observer: Observer
    spawn: Callable[[Any], "asyncio.Task[None]"]
    holds: Callable[[], bool]
    kick: Callable[[], None]
    failed: Callable[[str, BaseException], None]
    mask: Callable[[str], str]
