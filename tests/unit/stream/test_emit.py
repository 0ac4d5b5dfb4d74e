"""Events that functions emit: acknowledged before the record of the call settles."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from streamproc import App, Failures, Reject, Stream, testing
from streamproc.adapters.memory import Faults
from streamproc.errors import BrokerError
from streamproc.model import OutRecord
from tests.unit.stream.rig import Ping, rig, virtual


class Refuses(Faults):
    """Refuses the first sends to a topic."""

    def __init__(self, topic: str, times: int) -> None:
        self._topic = topic
        self.left = times

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        if record.topic == self._topic and self.left:
            self.left -= 1
            return BrokerError("NotLeaderError")
        return None


async def play(handler: Any, *, faults: Faults | None = None, **options: Any) -> testing.Result:
    app = App(functions=[Stream(Ping, handler, **options)])
    return await testing.run(app, [Ping(0), Ping(1)], faults=faults, within_s=3_600)


def emitted(result: testing.Result) -> list[bytes | None]:
    return [record.value for record in result.emitted.get("out", ())]


async def test_what_is_emitted_is_written() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(Ping(event.n + 10), topic="out", key=f"k{event.n}")

    result = await play(handler)
    assert [record.key for record in result.emitted["out"]] == [b"k0", b"k1"]
    assert b'"n":10' in (emitted(result)[0] or b"")


@virtual
async def test_a_record_does_not_settle_before_the_broker_has_acknowledged() -> None:
    allowed = asyncio.Event()

    class Slow(Faults):
        async def after_send(self, record: OutRecord) -> BrokerError | None:
            await allowed.wait()
            return None

    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(event, topic="out")

    async with rig(Stream(Ping, handler, timeout_s=1.0), faults=Slow()) as made:
        made.broker.create_topic("out", 1)
        made.put(1)
        await made.until(lambda: len(made.broker.records("out")) == 1)
        await asyncio.sleep(100)
        assert made.committed == 0
        assert made.pipeline.snapshot().in_flight_records == 1
        allowed.set()
        await made.until(lambda: made.committed == 1)


@pytest.mark.parametrize("batch_size", [None, 10])
async def test_what_is_refused_fails_the_call(batch_size: int | None) -> None:
    async def handler(event: Any, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="out")

    result = await play(handler, faults=Refuses("out", 1), batch_size=batch_size)
    assert result.count("ok") == 2
    assert result.count("retried") == 1


@pytest.mark.parametrize("batch_size", [None, 10])
async def test_a_call_that_emits_and_raises_sends_nothing(batch_size: int | None) -> None:
    async def handler(event: Any, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="out")
        raise ValueError("no")

    result = await play(handler, batch_size=batch_size, max_retry_attempts=0)
    assert [letter.message for letter in result.dead_letters] == ["no", "no"]
    assert emitted(result) == []


async def test_a_rejected_record_emits_nothing() -> None:
    async def handler(event: Ping, ctx: Any) -> Reject:
        ctx.emit(Ping(1), topic="out")
        return Reject("bad")

    assert emitted(await play(handler)) == []


async def test_a_batch_with_failures_emits() -> None:
    async def handler(events: Sequence[Ping], ctx: Any) -> Failures:
        ctx.emit(Ping(7), topic="out")
        return Failures({0: Reject("bad")} if events[0].n == 0 else {})

    result = await play(handler, batch_size=10)
    assert len(emitted(result)) == 1
    assert [letter.reason for letter in result.dead_letters] == ["bad"]


@pytest.mark.parametrize("batch_size", [None, 10])
async def test_a_key_that_is_no_text_fails_the_call_and_nothing_else(batch_size: int | None) -> None:
    async def handler(event: Any, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="out", key=5)

    result = await play(handler, batch_size=batch_size, max_retry_attempts=0)
    assert len(result.dead_letters) == 2
    assert "bytes" in result.dead_letters[0].message


@virtual
async def test_a_topic_that_does_not_exist_fails_the_call() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="nowhere")

    async with rig(Stream(Ping, handler, max_retry_attempts=0)) as made:
        made.put(1)
        await made.until(lambda: len(made.dead()) == 1)
