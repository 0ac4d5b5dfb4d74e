"""The formats of a record, one by one. Bad input in bulk is in `tests/corpus`."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from streamproc import Event
from streamproc.adapters.memory import StoredRecord
from streamproc.model import Decoded, Headers, Poison, RecordBatch, TopicPartition
from streamproc.stream.decode import Decoder
from streamproc.stream.options import StreamOptions

TOPIC = "events"
JSON = b'{"type":"ping","n":1}'


class Ping(Event, tag="ping"):
    n: int
    text: str = ""
    many: tuple[str, ...] = ()


class Pong(Event, tag="pong"):
    n: int


class Picky(Event, tag="picky"):
    n: int

    def __post_init__(self) -> None:
        if self.n == 1:
            raise StopIteration


def decode(values: Sequence[bytes | None], headers: Headers = (), **options: Any) -> Decoded:
    records = [StoredRecord(offset, 0, None, value, headers) for offset, value in enumerate(values)]
    size = sum(len(value or b"") for value in values)
    batch = RecordBatch(TopicPartition(TOPIC, 0), records, start=0, next_offset=len(records), nbytes=size)
    return Decoder([Ping, Pong], StreamOptions(**options), TOPIC).decode(batch)


def one(value: bytes | None, headers: Headers = (), **options: Any) -> Event | Poison:
    (event,) = decode([value], headers, **options).events
    return event


def reason(value: bytes | None, headers: Headers = (), **options: Any) -> str:
    found = one(value, headers, **options)
    assert isinstance(found, Poison), found
    return found.reason


def kinesis(data: bytes, **fields: object) -> bytes:
    return json.dumps({"kinesis": {"data": base64.b64encode(data).decode()}, **fields}).encode()


def test_kinesis() -> None:
    decoded = decode([kinesis(JSON, eventID="e-1"), kinesis(b'{"type":"pong","n":2}')])
    assert decoded.events == [Ping(1), Pong(2)]
    assert decoded.ids == ["e-1", ""]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b"{", "json"),
        (b"[]", "envelope"),
        (b'{"kinesis":{}}', "envelope"),
        (b'{"kinesis":{"data":5}}', "envelope"),
        (b'{"kinesis":{"data":"!"}}', "base64"),
        (b'{"kinesis":{"data":""}}', "empty"),
        (b'{"kinesis":{"data":"\xff"}}', "base64"),
        (b'{"kinesis":{"data":"YQ=="},"eventID":"\xff"}', "encoding"),
        (kinesis(b"{"), "json"),
        (kinesis(b'{"type":"ping"}'), "schema"),
        (kinesis(b'{"type":"nobody"}'), "unknown_type"),
        (kinesis(b"{}"), "unknown_type"),
        (kinesis(JSON, eventID="x" * 257), "envelope"),
        (kinesis(b'{"other":' + b"[" * 100_000), "too_deep"),
    ],
)
def test_kinesis_that_is_none(value: bytes | None, expected: str) -> None:
    assert reason(value) == expected


def test_poison_stands_between_events() -> None:
    decoded = decode([kinesis(JSON), b"{", kinesis(b"{"), None, kinesis(JSON)])
    assert [type(event) for event in decoded.events] == [Ping, Poison, Poison, Poison, Ping]
    assert list(decoded.ids) == [""] * 5


def test_base64() -> None:
    assert one(base64.b64encode(JSON), format="base64") == Ping(1)
    assert [reason(value, format="base64") for value in (b"", b"****", base64.b64encode(b"{"))] == [
        "empty",
        "base64",
        "json",
    ]


def test_json() -> None:
    assert one(JSON, format="json") == Ping(1)
    assert one(b" \n" + JSON, format="json") == Ping(1)
    assert [reason(value, format="json") for value in (b"", None, JSON + b"x", b"\xff")] == [
        "empty",
        "tombstone",
        "json",
        "json",
    ]


CE: Headers = [("ce_specversion", b"1.0"), ("ce_type", b"ping"), ("ce_id", b"e-1"), ("ce_source", b"/here")]


def test_cloud_events_in_binary_mode() -> None:
    decoded = decode([b'{"n":1}'], [*CE, ("content-type", b"application/json")], format="cloudevents")
    assert (decoded.events, decoded.ids) == ([Ping(1)], ["e-1"])


def test_cloud_event_headers_have_any_case_and_other_headers_any_bytes() -> None:
    upper = [(name.upper(), value) for name, value in CE]
    assert one(b'{"n":1}', [*upper, ("trace", b"\xff\xfe"), ("nothing", None)], format="cloudevents") == Ping(1)


@pytest.mark.parametrize(
    ("value", "headers", "expected"),
    [
        (None, CE, "tombstone"),
        (b'{"n":"x"}', CE, "schema"),
        (b"{", CE, "json"),
        (b'{"n":1}', [("ce_type", b"nobody")], "unknown_type"),
        (b'{"n":1}', [("ce_type", b"\xff")], "encoding"),
        (b'{"n":1}', [("ce_type", b"ping"), ("ce_id", b"x" * 257)], "envelope"),
        (b'{"n":1}', (), "envelope"),
        (b'{"n":1,"text":"a\\u0000b"}', CE, "nul"),
    ],
)
def test_cloud_events_in_binary_mode_that_are_none(value: bytes | None, headers: Headers, expected: str) -> None:
    assert reason(value, headers, format="cloudevents") == expected


def structured(**fields: object) -> bytes:
    return json.dumps({"specversion": "1.0", "type": "ping", "id": "e-1", "source": "/here", **fields}).encode()


def test_cloud_events_in_structured_mode() -> None:
    content = [("Content-Type", b"application/CloudEvents+json; charset=UTF-8")]
    decoded = decode([structured(data={"n": 1})], content, format="cloudevents")
    assert (decoded.events, decoded.ids) == ([Ping(1)], ["e-1"])
    in_base64 = structured(data_base64=base64.b64encode(b'{"n":1}').decode())
    assert one(in_base64, content, format="cloudevents") == Ping(1)
    assert one(structured(data={"n": 1}), format="cloudevents") == Ping(1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (structured(), "json"),
        (structured(data=None), "schema"),
        (structured(type="nobody", data={}), "unknown_type"),
        (structured(data_base64="!"), "base64"),
        (structured(id="x" * 257), "envelope"),
        (b"[]", "envelope"),
    ],
)
def test_cloud_events_in_structured_mode_that_are_none(value: bytes, expected: str) -> None:
    assert reason(value, format="cloudevents") == expected


def test_auto_tells_the_formats_apart() -> None:
    every = [JSON, kinesis(JSON), base64.b64encode(JSON), structured(data={"n": 1}), b"  " + kinesis(JSON)]
    assert decode(every, format="auto").events == [Ping(1)] * 5
    assert one(b'{"n":1}', CE, format="auto") == Ping(1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "tombstone"), (b"", "empty"), (b"{", "json"), (b"#", "base64"), (b'{"kinesis":5}', "envelope")],
)
def test_auto_of_what_is_no_format(value: bytes | None, expected: str) -> None:
    assert reason(value, format="auto") == expected


def test_a_topic_may_have_a_format_of_its_own() -> None:
    assert one(JSON, formats={TOPIC: "json"}) == Ping(1)
    assert reason(JSON, formats={"other": "json"}) == "envelope"


def test_values_over_the_limit_are_not_even_opened() -> None:
    padded = b'{"type":"ping","n":1,"text":"' + b"x" * 100 + b'"}'
    decoded = decode([JSON, padded, b"{"], format="json", max_record_bytes=50)
    assert isinstance(decoded.events[0], Ping)
    assert [event.reason for event in decoded.events[1:] if isinstance(event, Poison)] == ["too_large", "json"]
    assert isinstance(one(padded, format="json", max_record_bytes=len(padded)), Ping)


def test_nul_in_a_string_is_refused_however_deep() -> None:
    assert reason(b'{"type":"ping","n":1,"text":"a\\u0000"}', format="json") == "nul"
    assert reason(b'{"type":"ping","n":1,"many":["a","\\u0000"]}', format="json") == "nul"
    assert one(b'{"type":"ping","n":1,"text":"a\\\\u0000"}', format="json") == Ping(1, "a\\u0000")


def test_a_key_named_twice_is_refused_where_that_is_asked_for() -> None:
    twice = b'{"type":"ping","n":1,"n":2}'
    assert one(twice, format="json") == Ping(2)
    assert reason(twice, format="json", strict_json=True) == "duplicate_key"
    assert reason(b'{"n":1,"n":2}', CE, format="cloudevents", strict_json=True) == "duplicate_key"


def test_a_poison_tells_the_type_only_if_it_is_known() -> None:
    known = one(b'{"type":"ping","n":"x"}', format="json")
    unknown = one(b'{"type":"nobody\\n","n":"x"}', format="json")
    assert isinstance(known, Poison)
    assert isinstance(unknown, Poison)
    assert (known.event_type, unknown.event_type) == ("ping", "other")
    assert "$.n" in known.detail


@pytest.mark.parametrize("format", ["json", "auto"])
@pytest.mark.parametrize("value", [b'{"n":1}', b'{"type":null,"n":1}', b'{"type":"streamproc.nothing"}'])
def test_an_event_without_a_type_is_refused_also_where_there_is_one_type(value: bytes, format: str) -> None:
    batch = RecordBatch(
        TopicPartition(TOPIC, 0), [StoredRecord(0, 0, None, value, ())], start=0, next_offset=1, nbytes=len(value)
    )
    (found,) = Decoder([Ping], StreamOptions(format=format), TOPIC).decode(batch).events
    assert isinstance(found, Poison)
    assert found.reason == "unknown_type"


def test_an_empty_batch() -> None:
    decoded = decode([])
    assert (list(decoded.events), list(decoded.ids)) == ([], [])


def test_a_check_that_raises_stop_iteration_ends_nothing() -> None:
    """Whatever an event's own check raises, each record becomes an event or poison, in its place."""
    values = [kinesis(b'{"type":"picky","n":%d}' % n) for n in (0, 1, 2)]
    records = [StoredRecord(offset, 0, None, value) for offset, value in enumerate(values)]
    batch = RecordBatch(TopicPartition(TOPIC, 0), records, start=0, next_offset=3, nbytes=500)
    events = Decoder([Picky], StreamOptions(), TOPIC).decode(batch).events
    assert [type(event) for event in events] == [Picky, Poison, Picky]
    assert isinstance(events[1], Poison)
    assert events[1].reason == "schema"
