import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from streamproc import App, Event, Failures, Reject, RetryLater, Stream, testing


class Ping(Event, tag="ping"):
    n: int
    who: str = "a"


async def test_a_record_is_handled_and_committed() -> None:
    seen: list[int] = []

    async def handle(event: Ping, ctx: Any) -> None:
        seen.append(event.n)

    result = await testing.run(App(functions=[Stream(Ping, handle)]), [Ping(n) for n in range(10)])
    assert seen == list(range(10))
    assert result.outcomes == {("ping", "ok"): 10}


async def test_failures_are_retried_then_dead_lettered() -> None:
    async def handle(event: Ping, ctx: Any) -> object:
        if event.n == 1:
            raise ValueError("no")
        if event.n == 2:
            return Reject("bad", "why")
        if event.n == 3 and ctx.attempt < 3:
            return RetryLater(3600)
        return None

    app = App(functions=[Stream(Ping, handle, max_retry_attempts=4)])
    result = await testing.run(app, [Ping(n) for n in range(5)], key=lambda event: str(event.n))
    assert result.dead_letters == [
        testing.DeadLetter("bad", "test-2"),
        testing.DeadLetter("RetryAttemptsExhausted", "test-1"),
    ]
    assert result.dead_letters[1].attempts == 5
    assert result.elapsed_s > 7200
    assert result.count("ok") == 3


async def test_a_batch_with_failures_repeats_the_failed_key_in_order() -> None:
    calls: list[list[int]] = []

    async def handle(events: Sequence[Ping], ctx: Any) -> object:
        calls.append([event.n for event in events])
        if len(calls) == 1:
            return Failures({0: ValueError("no")})
        return None

    app = App(functions=[Stream(Ping, handle, batch_size=10)])
    events = [Ping(0, "a"), Ping(1, "b"), Ping(2, "a"), Ping(3, "b")]
    result = await testing.run(app, events, key=lambda event: event.who)
    assert calls == [[0, 1, 2, 3], [0, 2]]
    assert result.count("ok") == 4


async def test_a_call_that_runs_too_long_is_cancelled_and_retried() -> None:
    async def handle(event: Ping, ctx: Any) -> None:
        if ctx.attempt == 1:
            await asyncio.sleep(1000)

    result = await testing.run(App(functions=[Stream(Ping, handle, timeout_s=5)]), [Ping(1)])
    assert result.outcomes == {("ping", "ok"): 1, ("ping", "retried"): 1}


async def test_a_blocking_function_runs_in_a_thread() -> None:
    def handle(event: Ping, ctx: Any) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    result = await testing.run(App(functions=[Stream(Ping, handle)]), [Ping(n) for n in range(50)])
    assert result.count("ok") == 50


async def test_poison_is_dead_lettered_byte_for_byte() -> None:
    async def handle(event: Ping, ctx: Any) -> None:
        pass

    result = await testing.run(App(functions=[Stream(Ping, handle)]), [Ping(1), b"{", b'{"type":"nope"}', Ping(2)])
    assert [letter.reason for letter in result.dead_letters] == ["json", "unknown_type"]
    assert result.dead_letters[0].record is not None
    assert result.dead_letters[0].record.value == testing.envelope(b"{", event_id="test-1")
    assert result.count("ok") == 2


async def test_a_function_may_use_threads_of_the_loop() -> None:
    async def handle(event: Ping, ctx: Any) -> None:
        assert await asyncio.to_thread(lambda: event.n) == event.n
        assert ctx.function == "handle"

    result = await testing.run(App(functions=[Stream(Ping, handle)]), [Ping(n) for n in range(5)])
    assert result.count("ok") == 5
