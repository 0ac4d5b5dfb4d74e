"""B37 and B38: functions that fail in every way there is, and what of a record is shown to whom."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from prometheus_client import generate_latest

from streamproc import App, BatchContext, Context, Event, Stream, testing
from streamproc.adapters import prometheus
from streamproc.adapters.memory import StoredRecord
from streamproc.model import OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.stream.deadletter import OURS
from streamproc.stream.decode import Decoder
from streamproc.stream.options import StreamOptions
from tests.corpus.canary import CANARY, bodies
from tests.corpus.events import EVENTS, UserCreated
from tests.corpus.play import TOPIC, play

Fail = Callable[[], object]


class Quit(BaseException):
    """An error that is no Exception."""


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def throw(error: BaseException) -> Fail:
    def fail() -> object:
        raise error

    return fail


def recurse() -> object:
    return recurse()


def use_up_memory() -> object:
    return bytearray(1 << 62)


FAILURES: dict[str, tuple[str, Fail]] = {
    "base-exception": ("Quit", throw(Quit())),
    "keyboard-interrupt": ("KeyboardInterrupt", throw(KeyboardInterrupt())),
    "system-exit": ("SystemExit", throw(SystemExit(3))),
    "generator-exit": ("GeneratorExit", throw(GeneratorExit())),
    "cancelled": ("CancelledError", throw(asyncio.CancelledError())),
    "group": ("BaseExceptionGroup", throw(BaseExceptionGroup("g", [Quit()]))),
    "stop-async-iteration": ("StopAsyncIteration", throw(StopAsyncIteration())),
    "stop-iteration": ("RuntimeError", throw(StopIteration())),  # Python makes it one
    "recursion": ("RecursionError", recurse),
    "memory": ("MemoryError", use_up_memory),
    "mute": ("Mute", throw(Mute())),
    "number": ("HandlerError", lambda: 5),
    "false": ("HandlerError", lambda: False),
    "text": ("HandlerError", lambda: "ok"),
    "exception-as-value": ("HandlerError", lambda: ValueError("returned")),
    "class-as-value": ("HandlerError", lambda: ValueError),
}


def declare(kind: str, fail: Fail) -> Stream:
    """A function that fails for the user `bad`, after it has left a task behind if it can."""

    async def one(event: UserCreated, ctx: Context[None]) -> object:
        if event.user_id == "bad":
            leaked.append(asyncio.ensure_future(asyncio.sleep(1e9)))
            return fail()
        return None

    async def batch(events: Sequence[UserCreated], ctx: BatchContext[None]) -> object:
        return fail() if any(event.user_id == "bad" for event in events) else None

    def thread(event: UserCreated, ctx: Context[None]) -> object:
        return fail() if event.user_id == "bad" else None

    leaked: list[asyncio.Future[None]] = []
    handler: dict[str, Callable[..., Any]] = {"one": one, "batch": batch, "thread": thread}
    return Stream(UserCreated, handler[kind], max_retry_attempts=1, batch_size=1 if kind == "batch" else None)


@pytest.mark.parametrize("kind", ["one", "batch", "thread"])
@pytest.mark.parametrize("name", FAILURES)
async def test_b37_a_failure_stays_with_its_record(kind: str, name: str) -> None:
    error, fail = FAILURES[name]
    events = [UserCreated(user_id=user) for user in ("before", "bad", "after")]
    result = await testing.run(App(functions=[declare(kind, fail)]), events, key=lambda event: event.user_id)
    [letter] = result.dead_letters
    assert (letter.reason, letter.event_id, letter.attempts) == ("RetryAttemptsExhausted", "test-1", 2)
    assert letter.record is not None
    assert dict(letter.record.headers)[OURS + "exception"] == error.encode()
    assert result.outcomes == {
        ("user.created", "ok"): 2,
        ("user.created", "retried"): 1,
        ("user.created", "dead_lettered"): 1,
    }


async def fail_loudly(event: Event, ctx: Context[None]) -> None:
    """Puts all it knows into its error."""
    raise ValueError(f"{event} {ctx.event_id} {ctx.record}")


def offset_of(letter: StoredRecord) -> int:
    """Where it came from."""
    return int(dict(letter.headers)[OURS + "offset"] or b"")


async def test_b38_neither_logs_nor_metrics_show_what_a_record_holds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = App(functions=[Stream(event, fail_loudly, name=event.__name__, max_retry_attempts=1) for event in EVENTS])
    header = [(CANARY, CANARY.encode())]
    records = [OutRecord(TOPIC, body, CANARY.encode(), header, partition=0) for body in bodies()]
    played = await play(app, records)
    assert len(played.letters) == len(records)
    assert [letter.value for letter in sorted(played.letters, key=offset_of)] == bodies()
    assert "ValueError" in caplog.text
    assert CANARY not in caplog.text
    registry = prometheus.registry(prometheus.Metrics(), lambda: [played.snapshot], end_offsets=dict)
    scraped = generate_latest(registry).decode()
    assert "streamproc_dlq_records_total" in scraped
    assert CANARY not in scraped


def test_b38_a_poison_says_where_and_not_what() -> None:
    decoder = Decoder(EVENTS, StreamOptions(), TOPIC)
    for value in bodies():
        record = StoredRecord(0, 0, None, value)
        batch = RecordBatch(TopicPartition(TOPIC, 0), [record], start=0, next_offset=1, nbytes=len(value))
        event = decoder.decode(batch).events[0]
        if isinstance(event, Poison) and event.reason != "unknown_type":  # that one names the type
            assert CANARY not in event.detail
