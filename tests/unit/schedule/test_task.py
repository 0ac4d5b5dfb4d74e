"""What becomes of a firing around its function: retries, the time limit, repeats and dead letters."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamproc import App, Context, Reject, RetryLater, Schedule, TaskDue, testing
from streamproc.adapters.memory_firings import MemoryFirings
from streamproc.errors import StoreError
from streamproc.rows import Firing
from streamproc.schedule.task import DUE_S, SLACK_S, Task, due
from streamproc.testing import START, DeadLetter

AT = START - timedelta(minutes=5)


class Recording(MemoryFirings):
    """Remembers each move, and fails the moves to some states."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self.moves: list[Firing] = []
        self.fails = fails

    async def move(self, firing: Firing) -> Firing | None:
        self.moves.append(firing)
        if firing.state in self.fails:
            raise StoreError("the database is gone")
        return await super().move(firing)

    def states(self) -> list[str]:
        return [firing.state for firing in self.moves]


@dataclass(frozen=True)
class Attempt:
    """What a context says, for a call outside of a pipeline."""

    services: Any
    is_last_attempt: bool = False
    now: datetime = START
    log: Any = field(default_factory=lambda: logging.getLogger("task"))


Handler = Callable[[TaskDue, Context[Any]], Awaitable[Any]]


def schedule(handler: Handler, **options: Any) -> Schedule:
    return Schedule("daily", "0 3 * * *", handler, **options)


def app_of(declared: Schedule) -> App:
    return App(functions=[declared], outbox=lambda services: services, firings=lambda services: services)


async def returning(outcome: Any, firings: Recording, *, attempt: int = 1, **options: Any) -> Any:
    """Calls the handler of a stream once, whose function returns or raises an outcome."""

    async def handler(task: TaskDue, ctx: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    declared = schedule(handler, **options)
    await firings.claim(Firing("daily", AT, "due", START), None)
    event = declared.event(schedule="daily", fire_at=AT)
    return await Task(declared, lambda services: services)(
        event, Attempt(firings, is_last_attempt=0 <= declared.max_retry_attempts < attempt)
    )


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(None, "done"), (Reject("no"), "failed"), (RetryLater(5), "due"), ("nonsense", "due"), (ValueError("x"), "due")],
)
async def test_a_firing_runs_and_ends_as_its_function_does(outcome: Any, state: str) -> None:
    firings = Recording()
    ending = await asyncio.gather(returning(outcome, firings, timeout_s=10), return_exceptions=True)
    assert [*ending] == [outcome]
    assert firings.states() == ["running", state]
    running, ended = firings.moves
    assert running.lease_until == START + timedelta(seconds=10 + 300 + SLACK_S)
    assert ended.ended_at == (None if state == "due" else START)
    assert firings.rows["daily", AT] == ended


@pytest.mark.parametrize(
    ("outcome", "lease_s"),
    [
        (ValueError("x"), 300),
        (RetryLater(7_200), 7_200),
        (RetryLater(-5), 0),
        (RetryLater(float("nan")), 0),
        (RetryLater(1e300), 366 * 86_400),
    ],
)
async def test_the_lease_of_a_failure_lasts_until_it_is_called_again(outcome: Any, lease_s: float) -> None:
    firings = Recording()
    await asyncio.gather(returning(outcome, firings), return_exceptions=True)
    assert firings.moves[-1].lease_until == START + timedelta(seconds=lease_s + SLACK_S)


@pytest.mark.parametrize(
    ("attempt", "limit", "state"), [(3, 3, "due"), (4, 3, "failed"), (1, 0, "failed"), (99, -1, "due")]
)
@pytest.mark.parametrize("outcome", [ValueError("x"), RetryLater(5)])
async def test_the_last_failure_is_the_firings_end(outcome: Any, attempt: int, limit: int, state: str) -> None:
    firings = Recording()
    call = returning(outcome, firings, attempt=attempt, max_retry_attempts=limit)
    await asyncio.gather(call, return_exceptions=True)
    assert firings.states() == ["running", state]


async def test_what_is_done_or_failed_is_not_called_again() -> None:
    for first, again in (
        (None, None),
        (Reject("no", "never"), Reject("failed_before", "this firing failed for good before")),
    ):
        firings = Recording()
        assert await returning(first, firings) == first
        assert await returning(ValueError("called again"), firings) == again
        assert firings.states()[-1] == "running"
        assert firings.rows["daily", AT].state == ("failed" if first else "done")


async def test_a_firing_without_a_row_is_called() -> None:
    declared = schedule(no_op)
    firings = Recording()
    event = declared.event(schedule="daily", fire_at=AT)
    assert await Task(declared, lambda services: services)(event, Attempt(firings)) is None
    assert firings.rows == {}


async def no_op(task: TaskDue, ctx: Any) -> None: ...


async def test_without_a_database_the_function_is_not_called() -> None:
    with pytest.raises(StoreError):
        await returning(AssertionError("called"), Recording("running"))


@pytest.mark.parametrize("outcome", [None, Reject("no")])
async def test_an_end_that_cannot_be_written_changes_nothing_else(
    outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    firings = Recording("done", "failed")
    assert await returning(outcome, firings) == outcome
    assert "which was not written: the database is gone" in caplog.text
    with pytest.raises(ValueError, match="mine"):
        await returning(ValueError("mine"), Recording("due"))


def test_a_firing_counts_as_due_for_as_long_as_its_record_may_wait() -> None:
    quick, slow = schedule(no_op, timeout_s=10), schedule(no_op, timeout_s=80_000)
    assert due(quick, AT, START) == Firing("daily", AT, "due", START + timedelta(seconds=DUE_S))
    assert due(slow, AT, START).lease_until == START + timedelta(seconds=80_000)


async def test_a_function_that_fails_is_tried_again_and_a_repeat_is_not_called() -> None:
    calls: list[int] = []

    async def flaky(task: TaskDue, ctx: Context[Any]) -> None:
        calls.append(ctx.attempt)
        if len(calls) < 3:
            raise ValueError("not yet")

    app = app_of(schedule(flaky))
    task = testing.task(app, "daily")
    result = await testing.run(app, [task, task])
    assert (calls, result.count("ok"), result.count("retried"), result.dead_letters) == ([1, 2, 3], 2, 2, [])


async def test_a_function_that_gives_up_leaves_a_dead_letter_for_each_delivery() -> None:
    calls: list[int] = []

    async def never(task: TaskDue, ctx: Context[Any]) -> Reject:
        calls.append(ctx.attempt)
        return Reject("no_space", "the disk is full")

    app = app_of(schedule(never))
    task = testing.task(app, "daily")
    result = await testing.run(app, [task, task])
    assert result.dead_letters == [DeadLetter("no_space", "test-0"), DeadLetter("failed_before", "test-1")]
    assert calls == [1]


async def test_a_function_that_runs_too_long_is_ended_and_called_again() -> None:
    calls: list[datetime] = []

    async def slow(task: TaskDue, ctx: Context[Any]) -> None:
        calls.append(ctx.now)
        await asyncio.sleep(100 if len(calls) == 1 else 0)

    app = app_of(schedule(slow, timeout_s=10))
    result = await testing.run(app, [testing.task(app, "daily")])
    assert (len(calls), result.count("ok"), result.count("retried")) == (2, 1, 1)
    assert timedelta(seconds=10) <= calls[1] - calls[0] <= timedelta(seconds=12)


async def test_a_failure_for_good_after_all_retries() -> None:
    async def broken(task: TaskDue, ctx: Context[Any]) -> None:
        raise ValueError("always")

    app = app_of(schedule(broken, max_retry_attempts=2))
    [letter] = (await testing.run(app, [testing.task(app, "daily")])).dead_letters
    assert (letter.reason, letter.function, letter.attempts) == ("RetryAttemptsExhausted", "daily", 3)


async def test_a_task_is_invoked_with_its_services_and_no_database() -> None:
    async def daily(task: TaskDue, ctx: Context[Any]) -> None:
        ctx.services.append((task.schedule, task.fire_at, ctx.function))

    app = app_of(schedule(daily))
    seen: list[Any] = []
    at = datetime(2026, 11, 26, 3, tzinfo=UTC)
    assert await testing.invoke(app, testing.task(app, "daily", at), services=seen) is None
    assert seen == [("daily", at, "daily")]
