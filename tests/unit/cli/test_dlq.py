"""`dlq`: what is shown of a dead letter."""

import pytest

from streamproc.adapters.kafka_tools import StoredRecord
from streamproc.cli.dlq import details, print_details, summary, topics
from streamproc.model import TopicPartition
from streamproc.stream.options import StreamOptions

HEADERS = [
    ("traceparent", b"00-abc"),
    ("__streamproc.errors.topic", b"events"),
    ("__streamproc.errors.partition", b"3"),
    ("__streamproc.errors.offset", b"17"),
    ("__streamproc.errors.condition", b"schema"),
    ("__streamproc.errors.event.type", b"order.placed"),
    ("__streamproc.errors.attempts", b"4"),
    ("__streamproc.errors.stacktrace", b"line one\nline\x1b[2J two"),
    ("none", None),
]


def letter(**more: object) -> StoredRecord:
    fields: dict[str, object] = {
        "partition": TopicPartition("events.dlq", 0),
        "offset": 5,
        "timestamp": 1_769_860_800_250,
        "key": b"k",
        "value": b'{"type": "order.placed"}',
        "headers": HEADERS,
    }
    return StoredRecord(**{**fields, **more})  # type: ignore[arg-type]


def test_a_summary_says_where_it_lies_where_it_came_from_and_why() -> None:
    assert summary(letter()) == {
        "topic": "events.dlq",
        "partition": 0,
        "offset": 5,
        "time": "2026-01-31T12:00:00.250+00:00",
        "condition": "schema",
        "event_type": "order.placed",
        "source": "events-3@17",
        "attempts": "4",
    }


def test_a_record_that_is_no_dead_letter_has_a_summary_too() -> None:
    found = summary(letter(headers=[], timestamp=-1))
    assert (found["condition"], found["source"]) == ("", "?-?@?")


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        (None, ""),
        (-1, ""),
        (0, "1970-01-01T00:00:00.000+00:00"),
        (-86_400_000, "1969-12-31T00:00:00.000+00:00"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999+00:00"),
        (253_402_300_800_000, "253402300800000 ms after 1970"),
        (1_769_860_800_250_000, "1769860800250000 ms after 1970"),
        (2**63 - 1, "9223372036854775807 ms after 1970"),
        (-(2**63), "-9223372036854775808 ms after 1970"),
    ],
)
def test_any_time_can_be_shown(stamp: int | None, shown: str) -> None:
    """Some producers take microseconds for milliseconds."""
    assert (summary(letter(timestamp=stamp))["time"], details(letter(timestamp=stamp))["time"]) == (shown, shown)


def test_details_keep_bytes_that_are_no_text() -> None:
    found = details(letter(key=None, value=b"\xff\x00"))
    assert found["key"] is None
    assert found["value_base64"] == "/wA="
    assert found["headers"][0] == {"name": "traceparent", "value": "00-abc"}
    assert found["headers"][-1] == {"name": "none", "value": None}


def test_details_are_printed_by_line_and_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_details(details(letter(headers=[*HEADERS, ("bad\x1bname", b"\xff")])))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["topic", "events.dlq"]
    assert lines[-1].split(maxsplit=1) == ["value", '{"type": "order.placed"}']
    start = next(number for number, line in enumerate(lines) if "stacktrace" in line)
    assert lines[start].endswith("  line one")
    assert lines[start + 1].strip() == "line [2J two"
    assert not any("\x1b" in line for line in lines)


def test_the_topics_are_those_of_the_settings() -> None:
    assert topics(StreamOptions(topics=["a", "b"])) == ["a.dlq", "b.dlq"]
    assert topics(StreamOptions(topics=["a", "b"], dead_letter_topic="dead")) == ["dead"]
