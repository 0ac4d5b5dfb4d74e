"""Calls of one function: its time limit, its places, its threads, and errors of every kind."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc import Http, HttpContext
from streamproc.http.calls import Calls, Expired
from streamproc.model import SHORT_S
from tests.unit.http.rig import Rig


class Odd(BaseException):
    """An error that is no Exception."""


def calls(function: Callable[..., Any], **options: Any) -> Calls:
    return Calls(Http("GET", "/", function, **{"name": "f", "timeout_s": 0.1, **options}))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_result_and_an_error_come_through_and_are_counted() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    of_add = calls(add)
    assert await of_add.call({"a": 1, "b": 2}) == 3
    with pytest.raises(TypeError):
        await of_add.call({"a": 1, "b": "2"})
    assert (sum(of_add.durations), of_add.in_flight, of_add.full) == (2, 0, False)
    assert of_add.durations_sum_s < 1


async def test_durations_are_in_buckets_of_powers_of_two() -> None:
    async def nothing() -> None: ...

    counted = calls(nothing)
    for seconds in (-1.0, 0.0, SHORT_S * 0.9, SHORT_S, SHORT_S * 3, 1e9):
        counted._count(seconds)
    assert [(bucket, count) for bucket, count in enumerate(counted.durations) if count] == [
        (0, 3),
        (1, 1),
        (2, 1),
        (31, 1),
    ]


async def late(how: str) -> str:
    """Makes of its cancellation what it is told to."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        match how:
            case "swallow":
                return "late"
            case "raise":
                raise ValueError("another") from None
            case "exit":
                raise SystemExit from None
            case "wait":
                await asyncio.sleep(0.1)
                return "later"
            case "tidy":
                await asyncio.sleep(0)
                raise
        raise
    return "never"


@pytest.mark.parametrize("how", ["let go", "swallow", "raise", "exit", "wait", "tidy"])
async def test_whatever_a_function_makes_of_its_cancellation_it_took_too_long(how: str) -> None:
    of_late = calls(late)
    with pytest.raises(Expired):
        await of_late.call({"how": how})
    task = asyncio.current_task()
    assert task is not None
    assert (task.cancelling(), of_late.in_flight, sum(of_late.durations)) == (0, 0, 1)
    await asyncio.sleep(0)  # whoever called can go on


@pytest.mark.parametrize("how", ["let go", "tidy"])
async def test_a_cancellation_from_outside_stays_one(how: str) -> None:
    of_late = calls(late, timeout_s=60)
    task = asyncio.ensure_future(of_late.call({"how": how}))
    await until(lambda: of_late.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert of_late.in_flight == 0


async def test_many_calls_have_each_their_own_limit_and_one_timer() -> None:
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    of_wait = calls(wait, timeout_s=0.2)
    results = await asyncio.gather(
        *(of_wait.call({"seconds": seconds}) for seconds in [0, 0.01, 5, 5, 0.02]), return_exceptions=True
    )
    assert [result if isinstance(result, float | int) else type(result) for result in results] == [
        0,
        0.01,
        Expired,
        Expired,
        0.02,
    ]
    await until(lambda: of_wait._watching is None)


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, Odd, StopIteration, GeneratorExit, asyncio.CancelledError]
)
async def test_an_error_in_a_thread_comes_through_and_frees_its_place(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    of_fail = calls(fail, concurrency=1)
    for _ in range(3):
        with pytest.raises(RuntimeError if error in (StopIteration, GeneratorExit) else error):
            await of_fail.call({})
    await until(lambda: of_fail.in_flight == 0)
    of_fail.close()


async def test_threads_are_as_many_as_the_function_has_places_however_often_they_hang() -> None:
    release = threading.Event()
    threads: set[threading.Thread] = set()

    def hang() -> None:
        threads.add(threading.current_thread())
        release.wait(60)

    of_hang = calls(hang, concurrency=3)
    for _ in range(5):
        free = 0 if of_hang.full else 3
        results = await asyncio.gather(*(of_hang.call({}) for _ in range(free)), return_exceptions=True)
        assert [type(result) for result in results] == [Expired] * free
    assert (of_hang.in_flight, of_hang.full, len(threads)) == (3, True, 3)
    release.set()
    await until(lambda: not of_hang.full)
    of_hang.close()
    await until(lambda: not any(thread.is_alive() for thread in threads))


async def test_close_ends_what_runs_and_waits_for_no_thread() -> None:
    release, begun = threading.Event(), asyncio.Event()
    of_hang = calls(lambda: release.wait(60), timeout_s=60)
    of_late = calls(late, timeout_s=60)
    running = [asyncio.ensure_future(of_hang.call({})), asyncio.ensure_future(of_late.call({"how": "let go"}))]
    begun.set()
    await until(lambda: of_hang.in_flight == of_late.in_flight == 1)
    of_hang.close()
    of_late.close()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    assert (of_hang.in_flight, of_late.in_flight) == (1, 0)  # which is what the service asks for at its end
    release.set()
    await until(lambda: of_hang.in_flight == 0)


def raising(error: BaseException, in_thread: bool) -> Callable[..., Any]:
    async def fail(ctx: HttpContext) -> None:
        await asyncio.sleep(0)
        raise error

    def fail_in_thread(ctx: HttpContext) -> None:
        raise error

    return fail_in_thread if in_thread else fail


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), MemoryError(), RecursionError(), SystemExit(3), KeyboardInterrupt(), Odd(), GeneratorExit(),
     asyncio.CancelledError(), TimeoutError(), StopAsyncIteration(), BaseExceptionGroup("g", [SystemExit()])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_no_error_of_a_function_gets_further_than_its_answer(
    tmp_path: Path, error: BaseException, in_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = Rig(tmp_path, Http("GET", "/", raising(error, in_thread), name="fail", public=True))
    async with made.client() as client:
        for _ in range(2):
            answer = await client.get("/")
            assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})
    assert made.gateway.snapshot().answers["fail"] == {500: 2}
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in logged] == ["fail failed"] * 2
    made.gateway.close()


async def test_a_request_that_is_cancelled_is_not_answered(tmp_path: Path) -> None:
    async def wait(ctx: HttpContext) -> None:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        raise AssertionError("it was answered")

    made = Rig(tmp_path, Http("GET", "/", wait, public=True))
    scope = {"method": "GET", "path": "/", "query_string": b"", "headers": []}
    asking = asyncio.ensure_future(made.gateway(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
    await until(lambda: made.gateway.busy)
    made.gateway.close()
    await asking
    assert not made.gateway.busy
    assert made.gateway.snapshot().answers["wait"] == {499: 1}
