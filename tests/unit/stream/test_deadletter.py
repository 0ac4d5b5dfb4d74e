from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.adapters.memory import StoredRecord
from streamproc.core.ledger import Ledger
from streamproc.core.letters import Letter
from streamproc.model import Decoded, Failure, Headers, OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.stream.deadletter import (
    CONNECT,
    FORMS,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    MESSAGE_MAX,
    OURS,
    STACKTRACE_MAX,
    VALUE_KEPT_MAX,
    DeadLetterOptions,
    clean,
    dead_letter,
    truncated,
)

OPTIONS = DeadLetterOptions("{topic}.dlq", "connect", "group")
FAILURE = Failure("ValueError", "no", "Traceback: no")


def letter(
    value: bytes | None = b"value",
    key: bytes | None = b"key",
    headers: Headers = (),
    *,
    failure: Failure = FAILURE,
    function: str = "take",
    stamp: int = 1_600_000_000_000,
) -> Letter:
    record = StoredRecord(7, stamp, key, value, headers)
    batch = RecordBatch(TopicPartition("events", 3), [record], start=7, next_offset=8, nbytes=0)
    ledger = Ledger(batch.partition, epoch=1, start=7)
    entry = ledger.admit(Decoded(batch, [Poison("json", "bad")], ()), now=0.0)
    made = Letter(entry, 0, event_type="thing", condition="bad", failure=failure)
    if function:
        made.function, made.attempts, made.since = function, 3, 1_700_000_000.0
    return made


def named(record: OutRecord, prefix: str) -> dict[str, str]:
    found = [(name, value) for name, value in record.headers if name.startswith(prefix)]
    assert Counter(name for name, _ in found).most_common(1)[0][1] == 1
    return {name.removeprefix(prefix): (value or b"").decode() for name, value in found}


def test_a_dead_letter_is_the_record_itself() -> None:
    made = dead_letter(letter(headers=[("mine", b"\xff"), ("mine", None)]), OPTIONS)
    assert (made.topic, made.key, made.value, made.partition) == ("events.dlq", b"key", b"value", None)
    assert list(made.headers)[:2] == [("mine", b"\xff"), ("mine", None)]


def test_it_says_where_it_comes_from_and_why() -> None:
    assert named(dead_letter(letter(), OPTIONS), OURS) == {
        "topic": "events",
        "partition": "3",
        "offset": "7",
        "timestamp": "1600000000000",
        "group": "group",
        "handler": "take",
        "event.type": "thing",
        "exception": "ValueError",
        "message": "no",
        "stacktrace": "Traceback: no",
        "attempts": "3",
        "first.failed.at": "2023-11-14T22:13:20+00:00",
        "condition": "bad",
    }


def test_connect_headers_are_an_option() -> None:
    both, ours = dead_letter(letter(), OPTIONS), dead_letter(letter(), DeadLetterOptions("dead", "none", "group"))
    assert named(both, CONNECT)["exception.class.name"] == "ValueError"
    assert named(both, CONNECT)["stage"] == "TASK_PUT"
    assert not any(name.startswith(CONNECT) for name, _ in ours.headers)
    assert ours.topic == "dead"


def test_poison_names_no_function() -> None:
    made = dead_letter(letter(function=""), OPTIONS)
    assert "handler" not in named(made, OURS)
    assert named(made, OURS)["attempts"] == "0"
    assert "first.failed.at" not in named(made, OURS)
    assert named(made, CONNECT)["stage"] == "VALUE_CONVERTER"


def test_forged_headers_are_stripped() -> None:
    forged = [(OURS + "offset", b"999"), (CONNECT + "offset", b"999"), (OURS + "redrive.count", b"0"), ("kept", b"1")]
    made = dead_letter(letter(headers=forged), OPTIONS)
    assert named(made, OURS)["offset"] == "7"
    assert named(made, CONNECT)["offset"] == "7"
    assert "redrive.count" not in named(made, OURS)
    assert ("kept", b"1") in made.headers
    without = dead_letter(letter(headers=forged), DeadLetterOptions("dead", "none", "group"))
    assert not any(name.startswith(CONNECT) for name, _ in without.headers)


def test_a_dead_letter_of_a_dead_letter_does_not_grow() -> None:
    first = dead_letter(letter(), OPTIONS)
    second = dead_letter(letter(headers=first.headers), OPTIONS)
    assert list(second.headers) == list(first.headers)


def test_too_many_or_too_large_headers_are_left_out() -> None:
    many = dead_letter(letter(headers=[("h", b"x")] * 1_000), OPTIONS)
    assert sum(name == "h" for name, _ in many.headers) == HEADERS_MAX
    large = dead_letter(letter(headers=[("a", b"x"), ("b", b"x" * HEADER_BYTES_MAX), ("c", b"x")]), OPTIONS)
    assert [name for name, _ in large.headers if name in "abc"] == ["a"]


def test_long_texts_are_cut() -> None:
    made = dead_letter(letter(failure=Failure("E", "m" * 10_000, "s" * 100_000)), OPTIONS)
    assert len(named(made, OURS)["message"]) == MESSAGE_MAX
    assert len(named(made, CONNECT)["exception.stacktrace"]) == STACKTRACE_MAX


def test_control_characters_become_spaces() -> None:
    failure = Failure("E", "a\r\nb\x00c\x1b[31md\u2028e\x85f\tg", "x\x07y")
    made = dead_letter(letter(failure=failure), OPTIONS)
    assert named(made, OURS)["message"] == "a \nb c [31md e f\tg"
    assert named(made, OURS)["stacktrace"] == "x y"


@given(st.text(), st.integers(0, 50))
def test_clean_text_is_short_and_has_no_control_characters(text: str, limit: int) -> None:
    found = clean(text, limit)
    assert len(found) == min(len(text), limit)
    assert not any(ord(char) < 32 and char not in "\t\n" for char in found)
    assert not any(127 <= ord(char) < 160 or char in "\u2028\u2029" for char in found)


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert named(dead_letter(letter(failure=Failure("E", "a\ud800b")), OPTIONS), OURS)["message"] == "a?b"


@pytest.mark.parametrize("key", [None, b"key"])
def test_a_tombstone_stays_one_unless_it_has_no_key_either(key: bytes | None) -> None:
    """A record without key and value would be nothing at all to some tools."""
    made = dead_letter(letter(None, key), OPTIONS)
    assert (made.key, made.value) == (key, None if key else b"")
    assert (OURS + "value.null", b"true") in made.headers or key


def test_a_cut_dead_letter_keeps_the_beginning_and_says_how_long_it_was() -> None:
    made = truncated(letter(b"x" * 5_000, headers=[("mine", b"1" * 5_000)]), OPTIONS)
    assert made.value == b"x" * VALUE_KEPT_MAX
    assert named(made, OURS)["value.truncated"] == "5000"
    assert named(made, OURS)["offset"] == "7"
    assert "mine" not in dict(made.headers)
    assert made.key == b"key"


def test_a_cut_dead_letter_drops_a_key_that_is_too_large() -> None:
    made = truncated(letter(None, b"k" * 5_000), OPTIONS)
    assert (made.key, made.value) == (b"events/3/7", b"")
    assert (named(made, OURS)["key.truncated"], named(made, OURS)["value.null"]) == ("5000", "true")


@pytest.mark.parametrize("stamp", [-1, 0, 1_600_000_000_000, 1_600_000_000_000_000, 2**63 - 1])
def test_a_dead_letter_is_of_the_time_it_is_sent(stamp: int) -> None:
    """Retention would delete it with the record's own time, or the broker refuse it; that is in a header."""
    for make in FORMS:
        assert make(letter(stamp=stamp), OPTIONS).timestamp is None
    assert named(dead_letter(letter(stamp=stamp), OPTIONS), OURS)["timestamp"] == str(stamp)
