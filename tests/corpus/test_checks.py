"""What the corpus cannot show with the application's events: other shapes of events, and other formats."""

import enum
from typing import Any, Literal

import msgspec
import pytest

from streamproc import Event
from streamproc.adapters.memory import StoredRecord
from streamproc.model import Headers, Poison, RecordBatch, TopicPartition
from streamproc.stream.decode import Decoder
from streamproc.stream.options import StreamOptions

SECRET = "4111111111111111"


class Level(enum.IntEnum):
    LOW = 1


class Probe(Event, tag="probe", forbid_unknown_fields=True):
    """Has what other events have not. `check` names an error its check raises."""

    check: str = ""
    word: Literal["a", "b"] = "a"
    level: Level = Level.LOW
    pair: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    table: dict[str, str] = msgspec.field(default_factory=dict)
    free: Any = None

    def __post_init__(self) -> None:
        if self.check:
            raise RAISED[self.check]


class Loose(Event, tag="loose"):
    """Ignores fields it has not."""


class Image(Event, tag="image"):
    """Has a field whose name is in an error's text."""

    base64_text: bytes


RAISED: dict[str, BaseException] = {
    "value": ValueError(f"not '{SECRET}' and not \"{SECRET}\""),
    "key": KeyError(SECRET),
    "overflow": OverflowError(SECRET),
    "assertion": AssertionError(SECRET),
    "recursion": RecursionError(SECRET),
    "memory": MemoryError(),
}


def decode(value: str, *, headers: Headers = (), **options: Any) -> Event | Poison:
    record = StoredRecord(0, 0, None, value.encode(), headers)
    batch = RecordBatch(TopicPartition("t", 0), [record], start=0, next_offset=1, nbytes=len(value))
    return Decoder([Probe, Loose, Image], StreamOptions(**{"format": "json", **options}), "t").decode(batch).events[0]


def reason(value: str, *, headers: Headers = (), **options: Any) -> str:
    event = decode(value, headers=headers, **options)
    if isinstance(event, Poison):
        assert SECRET not in event.detail
        return event.reason
    return "ok"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (f'"word":"{SECRET}"', "$.word"),
        (f'"word":"it\'s {SECRET}"', "$.word"),
        (f'"word":"it\'s \\"{SECRET}\\""', "$.word"),
        (f'"level":{SECRET}', "$.level"),
        (f'"level":-{SECRET}', "$.level"),
        (f'"{SECRET}":1', "unknown field"),
        (f'"` {SECRET}":1', "unknown field"),
        (f'"table":{{"{SECRET}":1}}', "$.table[...]"),
        ('"check":"value"', "not"),
        ('"check":"key"', "KeyError"),
        ('"check":"overflow"', "OverflowError"),
        ('"check":"assertion"', "AssertionError"),
    ],
)
def test_a_detail_says_where_and_not_what(field: str, path: str) -> None:
    event = decode(f'{{"type":"probe",{field}}}')
    assert isinstance(event, Poison)
    assert (event.reason, event.event_type) == ("schema", "probe")
    assert path in event.detail
    assert SECRET not in event.detail


def test_a_check_that_runs_out_of_memory_is_no_fault_of_the_record() -> None:
    with pytest.raises(MemoryError):
        decode('{"type":"probe","check":"memory"}')


@pytest.mark.parametrize(
    "field", ['"pair":["a\\u0000"]', '"names":["\\u0000"]', '"table":{"\\u0000":""}', '"free":[{"a":["\\u0000"]}]']
)
def test_b16_nul_is_found_wherever_a_string_may_be(field: str) -> None:
    assert reason(f'{{"type":"probe",{field}}}') == "nul"


def test_b16_nul_below_a_deep_nesting_is_too_deep() -> None:
    assert reason('{"type":"probe","free":' + "[" * 900 + '"\\u0000"' + "]" * 900 + "}") == "too_deep"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('"x":' + "9" * 5_000, "ok"),
        ('"x":1e9999', "ok"),
        ('"x":"\\ud800\\udc00"', "ok"),
        ('"x":{"a":1,"\\u0061":2}', "duplicate_key"),
        ('"type":"loose"', "duplicate_key"),
    ],
)
def test_b14_the_second_pass_reads_what_the_first_one_passed(field: str, expected: str) -> None:
    value = f'{{"type":"loose",{field}}}'
    assert reason(value) == "ok"
    assert reason(value, strict_json=True) == expected


def test_only_text_that_is_not_base64_is_base64() -> None:
    assert reason('{"type":"image","base64Text":"!"}') == "base64"
    assert reason('{"type":"image"}') == "schema"


def structured(data: str) -> str:
    return f'{{"specversion":"1.0","type":"probe","id":"i","source":"s","data":{data}}}'


@pytest.mark.parametrize("form", ["cloudevents", "auto"])
def test_cloud_events_are_checked_as_all_others(form: str) -> None:
    binary = (("ce_type", b"probe"), ("ce_id", b"i"), ("trace", b"\xff"))
    for value, headers in ((structured, ()), (str, binary)):
        assert reason(value("{}"), headers=headers, format=form) == "ok"
        assert reason(value('{"pair":["\\u0000"]}'), headers=headers, format=form) == "nul"
        twice = value('{"check":"","check":""}')
        assert reason(twice, headers=headers, format=form) == "ok"
        assert reason(twice, headers=headers, format=form, strict_json=True) == "duplicate_key"
        assert reason(value('{"check":"key"}'), headers=headers, format=form) == "schema"
    assert reason("{}", headers=(("ce_type", b"\xff"),), format=form) == "encoding"
    assert reason("{}", headers=(("ce_type", b"probe"), ("ce_id", b"a\0")), format=form) == "nul"
