"""What functions may do to the runtime, and what becomes of it."""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamproc import App, Failures, Reject, RetryLater, Stream, testing
from streamproc.adapters.memory import Faults
from tests.unit.stream.rig import Ping, rig, virtual

WITHIN_S = 3_600.0


def by_number(event: Any) -> str:
    return str(event.n)


async def play(handler: Callable[..., Any], count: int = 3, **options: Any) -> testing.Result:
    """Runs some events with keys of their own."""
    app = App(functions=[Stream(Ping, handler, **options)])
    return await testing.run(app, [Ping(n) for n in range(count)], key=by_number, within_s=WITHIN_S)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


EXCEPTIONS = [
    ValueError("no"),
    BaseException("no"),
    asyncio.CancelledError(),
    RecursionError(),
    MemoryError(),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    Unspeakable(),
    ExceptionGroup("all", [ValueError("one")]),
]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["loop", "thread", "batch"])
async def test_whatever_a_function_raises_is_a_failure_of_its_record(error: BaseException, kind: str) -> None:
    failed: list[int] = []

    def fails_once(event: Ping, ctx: Any) -> None:
        if event.n == 1 and not failed:
            failed.append(1)
            raise error

    async def on_the_loop(event: Ping, ctx: Any) -> None:
        fails_once(event, ctx)

    async def many(events: Sequence[Ping], ctx: Any) -> None:
        for event in events:
            fails_once(event, ctx)

    handlers: dict[str, Callable[..., Any]] = {"loop": on_the_loop, "thread": fails_once, "batch": many}
    result = await play(handlers[kind], batch_size=10 if kind == "batch" else None)
    assert (result.count("ok"), result.dead_letters) == (3, [])
    assert result.count("retried") == (3 if kind == "batch" else 1)


async def test_a_real_recursion_without_end() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        await handler(event, ctx)

    result = await play(handler, max_retry_attempts=0)
    assert [letter.reason for letter in result.dead_letters] == ["RetryAttemptsExhausted"] * 3
    assert "recursion" in result.dead_letters[0].message


@pytest.mark.parametrize("returned", [1, "done", True, [], {"a": 1}, object(), ValueError("no"), Failures({})])
async def test_a_wrong_return_value_is_a_failure(returned: object) -> None:
    async def handler(event: Ping, ctx: Any) -> object:
        return returned if event.n == 0 else None

    result = await play(handler, max_retry_attempts=0)
    assert [type(returned).__name__ in letter.message for letter in result.dead_letters] == [True]
    assert result.count("ok") == 2


async def test_a_plain_function_that_returns_a_coroutine_is_a_failure() -> None:
    async def work() -> None:
        pass

    made: list[Any] = []

    def handler(event: Ping, ctx: Any) -> Any:
        made.append(work())
        return made[-1]

    result = await play(handler, max_retry_attempts=0)
    assert all("returned coroutine" in letter.message for letter in result.dead_letters)
    for coroutine in made:
        coroutine.close()


async def test_a_partial_and_an_object_are_functions_too() -> None:
    seen: list[str] = []

    async def handler(name: str, event: Ping, ctx: Any) -> None:
        seen.append(name)

    class Callee:
        async def __call__(self, event: Ping, ctx: Any) -> None:
            seen.append("object")

    await play(functools.partial(handler, "partial"), 1, name="one")
    await play(Callee(), 1, name="two")
    assert seen == ["partial", "object"]


async def test_rejections_and_delays_of_wrong_types_do_no_harm() -> None:
    async def handler(event: Ping, ctx: Any) -> Any:
        if event.n == 0:
            return Reject(None, ValueError("text"))  # type: ignore[arg-type]
        return RetryLater("5") if event.n == 1 else RetryLater(float("nan"))  # type: ignore[arg-type]

    result = await play(handler, max_retry_attempts=1)
    assert sorted(letter.reason for letter in result.dead_letters) == ["None"] + ["RetryAttemptsExhausted"] * 2
    assert {letter.message for letter in result.dead_letters if letter.reason == "None"} == {"text"}


# Time limits and cancellation


async def test_a_call_that_runs_too_long_fails() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        await asyncio.sleep(event.n * 100)

    result = await play(handler, timeout_s=5, max_retry_attempts=0)
    assert [letter.message for letter in result.dead_letters] == ["the call ran over timeout_s=5"] * 2


@pytest.mark.parametrize("batch_size", [None, 10])
async def test_a_call_that_swallows_its_cancellation_has_failed(batch_size: int | None) -> None:
    calls: list[int] = []

    async def handler(event: Any, ctx: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                await asyncio.sleep(1)

    result = await play(handler, 1, timeout_s=5, batch_size=batch_size)
    assert (result.count("retried"), result.count("ok")) == (1, 1)


async def test_the_next_call_of_a_worker_does_not_look_cancelled() -> None:
    """A call that turns its cancellation into an error leaves no trace of it on the worker's task."""
    seen: list[int] = []

    async def handler(event: Ping, ctx: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append(task.cancelling())
        if ctx.attempt == 1:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                raise ValueError("cut off") from None
        if ctx.attempt == 2:
            raise asyncio.CancelledError

    result = await play(handler, 2, timeout_s=1, concurrency=1)
    assert (result.count("retried"), result.count("ok")) == (4, 2)
    assert set(seen) == {0}


async def test_a_call_that_cancels_its_own_task_has_failed() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        if ctx.attempt == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    result = await play(handler, concurrency=1)
    assert (result.count("retried"), result.count("ok")) == (3, 3)


@pytest.mark.parametrize("how", ["swallows", "converts", "obeys"])
@pytest.mark.parametrize("batch_size", [None, 10])
def test_the_end_does_not_wait_for_what_a_call_makes_of_its_cancellation(how: str, batch_size: int | None) -> None:
    @virtual
    async def play_it() -> None:
        async def handler(event: Any, ctx: Any) -> None:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                if how == "converts":
                    raise ValueError from None
                if how == "obeys":
                    raise

        async with rig(Stream(Ping, handler, timeout_s=80_000, batch_size=batch_size)) as made:
            made.put(1)
            await made.until(lambda: made.pipeline.snapshot().functions[0].in_flight == 1)
            assert not await made.pipeline.stop(5.0)
            async with asyncio.timeout(5):
                await made.running
            assert made.committed == 0

    play_it()


async def test_a_thread_that_runs_too_long_is_reported_and_fails_when_it_returns() -> None:
    returns = threading.Event()

    def handler(event: Ping, ctx: Any) -> None:
        if ctx.attempt == 1:
            assert returns.wait(60)

    committed = asyncio.Event()

    class Told(Faults):
        async def after_commit(self, offsets: Any) -> None:
            committed.set()

    async with rig(Stream(Ping, handler, timeout_s=0.1), faults=Told(), commit_interval_s=0.05) as made:
        made.watcher.when_abandoned = returns.set
        made.put(1)
        async with asyncio.timeout(60):
            await committed.wait()
        assert made.watcher.abandoned == ["handler"]
        assert made.pipeline.snapshot().records["events", "ping", "retried"] == 1


async def test_a_task_that_is_left_behind_harms_nobody() -> None:
    left: list[Any] = []

    async def fails_later() -> None:
        await asyncio.sleep(5)
        raise ValueError("nobody waits for me")

    async def handler(event: Ping, ctx: Any) -> None:
        left.append(asyncio.ensure_future(fails_later()))
        await asyncio.sleep(10)

    result = await play(handler)
    assert result.count("ok") == 3
    assert all(isinstance(task.exception(), ValueError) for task in left)


async def test_no_more_calls_at_a_time_than_allowed() -> None:
    running = 0
    most = 0

    async def handler(event: Ping, ctx: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(10)
        running -= 1

    result = await play(handler, 50, concurrency=7)
    assert (most, result.count("ok")) == (7, 50)
    assert result.elapsed_s < 90


@virtual
async def test_a_batch_leaves_when_its_window_ends_although_another_was_in_a_call_when_it_began() -> None:
    starts: list[float] = []

    async def handler(events: Sequence[Ping], ctx: Any) -> None:
        starts.append(asyncio.get_running_loop().time())
        if len(starts) == 1:
            await asyncio.sleep(4.5)

    function = Stream(Ping, handler, batch_size=10, batch_window_s=1.0)
    async with rig(function, commit_interval_s=60) as made:  # so that nothing but the window can wake the batch
        made.put(1)
        await made.until(lambda: len(starts) == 1)
        await asyncio.sleep(4.0)
        made.put(2)
        await made.until(lambda: len(starts) == 2)
    assert starts[1] - starts[0] == pytest.approx(5.0, abs=0.3)
