from collections.abc import Sequence
from typing import Any

import pytest

from streamproc import Event, Stream, testing
from streamproc.adapters.memory import StoredRecord
from streamproc.app import App
from streamproc.core.ledger import Entry, Ledger
from streamproc.core.plan import Routed
from streamproc.model import Decoded, Poison, RecordBatch, TopicPartition
from streamproc.stream.route import Router, keys_of, plan

P0 = TopicPartition("events", 0)


class Ping(Event, tag="ping"):
    n: int
    who: Any = "a"


class Pong(Event, tag="pong"):
    n: int


async def take(event: Event, ctx: Any) -> None:
    pass


async def take_many(events: Sequence[Event], ctx: Any) -> None:
    pass


def decoded(*events: Event | Poison) -> Decoded:
    records = [StoredRecord(offset, 0, b"k%d" % (offset % 2), b"v") for offset in range(len(events))]
    return Decoded(RecordBatch(P0, records, start=0, next_offset=len(events), nbytes=0), events, ())


def entry(*events: Event) -> Entry:
    return Ledger(P0, epoch=1, start=0).admit(decoded(*events), now=0.0)


def calls(routed: Routed) -> list[tuple[int, list[int]]]:
    return [(number, list(indexes)) for number, indexes in routed.calls]


def keys(stream: Stream, *events: Event) -> list[object]:
    return list(keys_of(stream)(entry(*events), range(len(events))))


def test_events_go_to_the_functions_of_their_type() -> None:
    router = Router([Stream(Ping, take), Stream(Pong, take, name="pong")], "events", frozenset())
    routed = router.route(decoded(Ping(0), Pong(1), Ping(2)))
    assert calls(routed) == [(0, [0, 2]), (1, [1])]
    assert (list(routed.poison), routed.ignored, routed.shared) == ([], {}, {})


def test_several_functions_may_take_a_type() -> None:
    router = Router([Stream(Ping, take, name=name) for name in "abc"] + [Stream(Pong, take)], "events", frozenset())
    routed = router.route(decoded(Ping(0), Pong(1), Ping(2)))
    assert calls(routed) == [(0, [0, 2]), (1, [0, 2]), (2, [0, 2]), (3, [1])]
    assert routed.shared == {0: 3, 2: 3}


def test_a_function_of_another_topic_gets_nothing() -> None:
    functions = [Stream(Ping, take, name="here"), Stream(Ping, take, name="there", topic="other")]
    routed = Router(functions, "events", frozenset()).route(decoded(Ping(0)))
    assert calls(routed) == [(0, [0])]
    assert routed.shared == {}


def test_a_rule_lets_poison_of_its_reason_pass() -> None:
    router = Router([Stream(Ping, take)], "events", frozenset({"unknown_type"}))
    routed = router.route(decoded(Poison("json", ""), Poison("unknown_type", ""), Ping(2), Poison("tombstone", "")))
    assert (routed.poison, routed.ignored) == ([0, 3], {1: "other"})


def test_an_empty_batch_goes_nowhere() -> None:
    routed = Router([Stream(Ping, take)], "events", frozenset()).route(decoded())
    assert (calls(routed), routed.poison) == ([], [])


def test_what_orders_records() -> None:
    events = [Ping(0, "x"), Ping(1, "y"), Ping(2, "x")]
    assert keys(Stream(Ping, take), *events) == [b"k0", b"k1", b"k0"]
    assert keys(Stream(Ping, take, key="who"), *events) == ["x", "y", "x"]
    assert keys(Stream(Ping, take, key=lambda event: event.n // 2), *events) == [0, 0, 1]
    assert keys(Stream(Ping, take, order="partition"), *events) == [None, None, None]
    assert keys(Stream(Ping, take, order="unordered"), *events) == [0, 1, 2]


def of_a_dict(event: Any) -> object:
    """A key function as people write them: it works until a record lacks the field."""
    return event.who["id"]


@pytest.mark.parametrize("batch_size", [None, 10])
@pytest.mark.parametrize("bad", [None, "text", {"id": []}, {"id": {}}, {}])
async def test_a_record_whose_key_cannot_be_told_stops_nothing(bad: Any, batch_size: int | None) -> None:
    """It has no key, then: ordered among its like. One that raises or is unhashable used to end the process."""
    assert keys(Stream(Ping, take, key=of_a_dict), Ping(0, {"id": 1}), Ping(1, bad), Ping(2, {"id": 2})) == [1, None, 2]
    failed: list[int] = []

    async def fails_once(events: Any, ctx: Any) -> None:
        if not failed:
            failed.append(1)
            raise ValueError

    app = App(functions=[Stream(Ping, fails_once, key=of_a_dict, batch_size=batch_size)])
    result = await testing.run(app, [Ping(0, {"id": 1}), Ping(1, bad)], within_s=60)
    assert result.count("ok") == 2


def test_the_plan_says_what_the_engine_must_know() -> None:
    made = plan(Stream(Ping, take_many, batch_size=5, batch_window_s=2.0, max_retry_attempts=3, backoff_s=0.5))
    assert (made.name, made.event_type, made.batch_size, made.batch_window_s) == ("take_many", "ping", 5, 2.0)
    assert (made.retry.attempts_max, made.retry.base_s, made.retry.cap_s) == (3, 0.5, 30.0)
