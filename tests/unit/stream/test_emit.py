"""Events that functions emit: acknowledged before the record of the call settles."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from streamproc import App, Failures, Reject, Stream, testing
from streamproc.adapters.memory import Faults
from streamproc.errors import BrokerError, RecordRefused
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


class Forbids(Faults):
    """Never takes a record that holds a word."""

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        forbidden = record.topic == "out" and b"forbidden" in (record.value or b"")
        return RecordRefused("topic out: InvalidRecordError") if forbidden else None


LARGE = 2_000_000


async def test_an_event_that_is_too_large_is_a_dead_letter_at_once() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="out")
        if event.n == 0:
            ctx.emit(Ping(2, who="x" * LARGE), topic="out")

    result = await play(handler)
    (letter,) = result.dead_letters
    assert (letter.reason, letter.function, letter.attempts) == ("emitted_too_large", "handler", 1)
    assert "MessageSizeTooLargeError" in letter.message
    assert str(LARGE)[:3] in letter.message
    assert (result.count("ok"), result.count("retried")) == (1, 0)


async def test_an_event_that_the_broker_never_takes_is_a_dead_letter_at_once() -> None:
    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(Ping(2, who="forbidden" if event.n else "fine"), topic="out")

    result = await play(handler, faults=Forbids())
    assert [(letter.reason, letter.attempts) for letter in result.dead_letters] == [("emitted_refused", 1)]
    assert "topic out: InvalidRecordError" in result.dead_letters[0].message


async def test_a_refusal_for_good_outweighs_one_that_may_pass() -> None:
    class Both(Forbids):
        async def before_send(self, record: OutRecord) -> BrokerError | None:
            return await super().before_send(record) or (BrokerError("down") if record.topic == "out" else None)

    async def handler(event: Ping, ctx: Any) -> None:
        ctx.emit(Ping(1), topic="out")
        ctx.emit(Ping(2, who="forbidden"), topic="out")

    result = await play(handler, faults=Both())
    assert [(letter.reason, letter.attempts) for letter in result.dead_letters] == [("emitted_refused", 1)] * 2


@pytest.mark.parametrize("guilty", [0, 1])
async def test_a_batch_whose_event_is_refused_is_tried_again_until_the_record_to_blame_is_alone(guilty: int) -> None:
    """Which of its records the event comes from is not known: the others must not die of it."""

    async def handler(events: Sequence[Ping], ctx: Any) -> None:
        for event in events:
            ctx.emit(Ping(event.n, who="forbidden" if event.n == guilty else "fine"), topic="out")

    app = App(functions=[Stream(Ping, handler, key="n", batch_size=10, max_retry_attempts=3)])
    seeded = random.Random(7)
    apart = await testing.run(app, [Ping(0), Ping(1)], faults=Forbids(), within_s=3_600, draw=seeded.random)
    assert [letter.reason for letter in apart.dead_letters] == ["emitted_refused"]
    assert apart.count("ok") == 1
    together = await testing.run(app, [Ping(0), Ping(1)], faults=Forbids(), within_s=3_600)
    assert {letter.reason for letter in together.dead_letters} == {"RetryAttemptsExhausted"}
    assert "the events of a batch of 2 records" in together.dead_letters[0].message


async def test_a_batch_of_one_record_is_known_to_be_to_blame() -> None:
    async def handler(events: Sequence[Ping], ctx: Any) -> None:
        ctx.emit(Ping(1, who="forbidden"), topic="out")

    result = await play(handler, faults=Forbids(), batch_size=1)
    assert [(letter.reason, letter.attempts) for letter in result.dead_letters] == [("emitted_refused", 1)] * 2
