"""Workflows: the legs of what one event sets off, in sequence or in parallel, each carried out once.

    validate -> (payment | inventory) -> confirmation

What became of a leg is written in the transaction of its effect. A retry, or another process after a crash, reads that
first and repeats only what is not done. A leg that rejects ends the run: the legs that may have had an effect are
undone, the last first, and the run returns the rejection, which makes its event a dead letter. A leg that fails lets
those beside it finish; then the run fails, and the engine tries it again.

Effects outside of the database (a payment, a mail) cannot share its transaction: their leg may be called again after a
crash, with the same `key`, by which the other side must know that it is a repeat.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple

from streamproc.context import Context, S
from streamproc.errors import ConfigError, HandlerError, LegEnded
from streamproc.fingerprint import fingerprint
from streamproc.model import Event, Reject, RetryLater
from streamproc.ports import Journal
from streamproc.rows import LegRecord, LegState

Returned = Reject | RetryLater | None


class Failed(NamedTuple):
    """A leg is to be called again because of an error, which is recorded."""

    error: Exception


Unfinished = Failed | RetryLater | None
"""Why a leg is to be called again; None when it is not."""


BEGUN = ""
"""The leg that says whose run it is, where several legs are the first: other content must not take one of them."""


class LegContext(Generic[S]):
    """What a leg is given besides the event. `results` has what the legs before it left, by name.

    `attempt` is 1 for the first call. `ctx` is the context of the event's own call. What a leg sets `result` to is for
    the legs after it.
    """

    __slots__ = ("_run", "attempt", "ctx", "name", "recorded", "result", "results", "started_at", "why")

    def __init__(self, run: "_Run[S]", name: str, attempt: int, why: Reject | None = None) -> None:
        self._run = run
        self.name = name
        self.attempt = attempt
        self.ctx = run.ctx
        self.result = ""
        self.results = run.results()
        self.started_at = run.ctx.now
        self.why = why
        self.recorded: LegRecord | None = None

    @property
    def services(self) -> S:
        """What the application's `services` opened."""
        return self.ctx.services

    @property
    def now(self) -> datetime:
        """The time, by the clock the engine decides with."""
        return self.ctx.now

    @property
    def key(self) -> str:
        """What this leg of this run is known by elsewhere, the same in each attempt: an idempotency key."""
        return f"{self._run.run_id}/{self.name}"

    def record(self) -> LegRecord:
        """The row that says the leg is done (or undone), for a store to write in the transaction of its effect.

        Without it, the row is written after the leg has returned.
        """
        self.recorded = self.ended("undone", self.why) if self.why else self.ended("done", Reject(self.result))
        return self.recorded

    def ended(self, state: LegState, why: Reject) -> LegRecord:
        """The row of how this call ended."""
        run = self._run
        result, detail = why.reason, why.detail
        return LegRecord(
            run.run_id, self.name, run.fingerprint, state, self.attempt, self.started_at, self.now, result, detail
        )


Do = Callable[[Any, LegContext[Any]], Awaitable[Returned]]
Undo = Callable[[Any, LegContext[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Leg:
    """One step of a workflow: `async def do(event, leg)`, and what takes its effect back.

    `do` returns None when it is done, Reject when it had no effect and never will; what it raises is tried again, by
    the engine's backoff, up to `max_attempts` calls in all (-1: no limit), then it counts as rejected with
    `retries_exhausted`. `undo` is also called when it is not known whether `do` had an effect; once it has returned,
    the effect is gone and a late `do` must have none. Raises ConfigError when impossible.
    """

    name: str
    do: Do
    _: KW_ONLY
    undo: Undo | None = None
    timeout_s: float = 10.0
    max_attempts: int = 10

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ConfigError(f"Leg({self.name!r}): the name must not be empty or hold a slash")
        for function in (self.do, self.undo):
            if function is not None and not inspect.iscoroutinefunction(function):
                raise ConfigError(f"Leg({self.name!r}): {function!r} must be an async def")
        if self.timeout_s <= 0 or (self.max_attempts < 1 and self.max_attempts != -1):
            raise ConfigError(f"Leg({self.name!r}): timeout_s must be above 0, max_attempts at least 1, or -1")


class Parallel:
    """Legs that are called at once. The next ones are called when all of them are done."""

    def __init__(self, *legs: Leg) -> None:
        self.legs = legs


class Workflow:
    """Legs, one after the other or in `Parallel`. Raises ConfigError when two have one name."""

    def __init__(self, name: str, *stages: Leg | Parallel) -> None:
        self.name = name
        self.stages = [stage.legs if isinstance(stage, Parallel) else (stage,) for stage in stages]
        names = [leg.name for leg in self.legs]
        if not names or len(names) > len(set(names)):
            raise ConfigError(f"Workflow({name!r}): it must have legs, each of another name")

    @property
    def legs(self) -> Sequence[Leg]:
        """All legs, in order."""
        return [leg for stage in self.stages for leg in stage]

    def run_id(self, subject: str) -> str:
        """What the run for a subject (an order's id, say) is kept under."""
        return f"{self.name}/{subject}"

    def refusal(self, records: Iterable[LegRecord], *, gives_up: bool = False) -> Reject | None:
        """Why a run of which these rows are is over without being done: the first reason, so that all say the same.

        With `gives_up`, no leg that failed is called again.
        """
        in_time = sorted(records, key=lambda one: (one.ended_at, one.leg))
        for one in in_time:
            if one.state == "undone":
                return Reject(one.result, one.detail)
        limits = {leg.name: leg.max_attempts for leg in self.legs}
        for one in in_time:
            if one.state == "rejected":
                return Reject(one.result, one.detail)
            if one.state == "failed" and (gives_up or 0 < limits.get(one.leg, -1) <= one.attempts):
                return Reject("retries_exhausted", f"{one.leg}: {one.result}")
        return None

    async def run(self, event: Event, ctx: Context[S], *, subject: str, journal: Journal) -> Returned:
        """Carries out what is not done yet of the run for a subject; return what it returns.

        Its Reject is the leg's that ended the run, or `conflict` for another event than the run was begun with.
        Raises what a leg raised, and StoreError. A leg that fails in the last attempt of the event's function ends the
        run, with `retries_exhausted`. Only an outage of the journal in that attempt leaves the run as it is, a dead
        letter that can be tried again; `max_retry_attempts=-1` waits for its end.
        """
        run = _Run(self, event, ctx, run_id=self.run_id(subject), journal=journal)
        return await run.carry_out()


class _Run(Generic[S]):
    """One call for one run."""

    def __init__(self, workflow: Workflow, event: Event, ctx: Context[S], *, run_id: str, journal: Journal) -> None:
        self.ctx = ctx
        self.run_id = run_id
        self.fingerprint = fingerprint(event)
        self._workflow = workflow
        self._event = event
        self._journal = journal
        self._records: dict[str, LegRecord] = {}

    def results(self) -> Mapping[str, str]:
        """What the legs that are done left."""
        return {name: one.result for name, one in self._records.items() if one.state == "done" and name != BEGUN}

    async def carry_out(self) -> Returned:
        """See `Workflow.run`."""
        for record in await self._journal.read(self.run_id):
            if record.fingerprint != self.fingerprint:
                return Reject("conflict", f"{self.run_id} was begun with other content")
            self._records[record.leg] = record
        if not self._records and len(self._workflow.stages[0]) > 1:
            await self._write(LegContext(self, BEGUN, 1).ended("done", Reject("")))
        why = self._workflow.refusal(self._records.values())
        for stage in self._workflow.stages:
            if why is not None:
                break
            found = await _together(*map(self._call, stage))
            unfinished = [one for one in found if one is not None]
            gives_up = bool(unfinished) and self.ctx.is_last_attempt
            why = self._workflow.refusal(self._records.values(), gives_up=gives_up)
            if why is None and unfinished:
                return _worst(unfinished)
        if why is not None:
            await self._take_back(why)
        return why

    async def _call(self, leg: Leg) -> Unfinished:
        """Calls a leg unless it is done."""
        before = self._records.get(leg.name)
        if before is not None and before.state == "done":
            return None
        context = LegContext(self, leg.name, before.attempts + 1 if before else 1)
        try:
            async with _timeout(leg.timeout_s):
                returned = await leg.do(self._event, context)
            if not isinstance(returned, Returned):
                raise HandlerError(f"leg {leg.name} returned {type(returned).__name__}, which is no outcome")
        except LegEnded:
            raise
        except Exception as error:
            await self._write(context.ended("failed", Reject(type(error).__name__)))
            return Failed(error)
        if isinstance(returned, Reject):
            await self._write(context.ended("rejected", returned))
        elif isinstance(returned, RetryLater):
            await self._write(context.ended("failed", Reject("RetryLater", returned.detail)))
            return returned
        else:
            await self._done(context)
        return None

    async def _done(self, context: LegContext[S]) -> None:
        if context.recorded is None:
            await self._write(context.record())
        else:
            self._records[context.name] = context.recorded

    async def _write(self, record: LegRecord) -> None:
        if not await self._journal.write(record):
            raise LegEnded(record.run_id, record.leg)
        self._records[record.leg] = record

    async def _take_back(self, why: Reject) -> None:
        """Undoes all legs that may have had an effect: also those called at once with the last, whatever is known."""
        begun = [stage for stage in self._workflow.stages if any(leg.name in self._records for leg in stage)]
        for leg in reversed([leg for stage in begun for leg in stage]):
            record = self._records.get(leg.name)
            if leg.undo is None or (record is not None and record.state in ("rejected", "undone")):
                continue
            context = LegContext(self, leg.name, record.attempts if record else 0, why)
            async with _timeout(leg.timeout_s):
                await leg.undo(self._event, context)
            await self._done(context)


def _timeout(seconds: float) -> AbstractAsyncContextManager[object]:
    import asyncio  # here: who only declares a workflow, a command say, does not wait for it

    return asyncio.timeout(seconds)


async def _together(*calls: Coroutine[Any, Any, Unfinished]) -> Sequence[Unfinished]:
    """Waits for all, then raises what one of them raised: what is stored is not known then, and the retry reads it."""
    if len(calls) == 1:
        return [await calls[0]]
    import asyncio

    found = await asyncio.gather(*calls, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]


def _worst(unfinished: Sequence[Failed | RetryLater]) -> RetryLater:
    """Raises the first error; without one, the longest wait."""
    for one in unfinished:
        if isinstance(one, Failed):
            raise one.error
    return max((one for one in unfinished if isinstance(one, RetryLater)), key=lambda wait: wait.after_s)
