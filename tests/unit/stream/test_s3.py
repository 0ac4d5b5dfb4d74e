"""What object stores tell on Kafka: every dialect, what is none, and the same event in the other formats."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import App, ConfigError, Context, Event, S3Event, Stream, testing
from streamproc.adapters.memory import StoredRecord
from streamproc.checks import check_start
from streamproc.model import Decoded, OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.s3 import RECORDS_MAX
from streamproc.settings import load
from streamproc.stream.decode import Decoder
from streamproc.stream.options import Format, StreamOptions
from streamproc.stream.wrap import keeps_event_ids, record_of
from tests.corpus.objects import HOSTILE_KEYS, record

TOPIC = "uploads"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Ping(Event, tag="ping"):
    n: int


def decode(
    value: object, *, form: Format = "s3", events: Sequence[type[Event]] = (Ping, S3Event), **options: Any
) -> Decoded:
    """A batch of one record: bytes as they are, other things as JSON."""
    written = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    batch = RecordBatch(
        TopicPartition(TOPIC, 0),
        [StoredRecord(0, 0, None, written)],
        start=0,
        next_offset=1,
        nbytes=len(written or b""),
    )
    return Decoder(events, StreamOptions(formats={TOPIC: form}, **options), TOPIC).decode(batch)


def told(value: object, **options: Any) -> S3Event:
    event = decode(value, **options).events[0]
    assert isinstance(event, S3Event), event
    return event


def poison(value: object, **options: Any) -> Poison:
    event = decode(value, **options).events[0]
    assert isinstance(event, Poison), event
    return event


AMAZON = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-2",
            "eventTime": "2020-03-08T00:30:12.456Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "A"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "C3D", "x-amz-id-2": "F"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "c",
                "bucket": {"name": "b", "ownerIdentity": {"principalId": "A"}, "arn": "arn:aws:s3:::b"},
                "object": {"key": "red+flower/%C3%A9.jpg", "size": 1024, "eTag": "d41d", "sequencer": "0055AED"},
            },
        }
    ]
}
MINIO = {
    "EventName": "s3:ObjectCreated:CompleteMultipartUpload",
    "Key": "b/red flower/é.jpg",
    "Records": [
        {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "eventTime": "2024-05-01T10:00:00.123Z",
            "eventName": "s3:ObjectCreated:CompleteMultipartUpload",
            "s3": {
                "bucket": {"name": "b"},
                "object": {
                    "key": "red+flower%2F%C3%A9.jpg",
                    "size": 5,
                    "eTag": "e-2",
                    "contentType": "image/jpeg",
                    "userMetadata": {"content-type": "image/jpeg"},
                    "versionId": "v",
                    "sequencer": "17CB",
                },
            },
            "source": {"host": "10.0.0.1", "port": "", "userAgent": "x"},
        }
    ],
}
CEPH = {
    "Records": [
        {
            "eventVersion": "2.2",
            "eventSource": "ceph:s3",
            "eventTime": "2019-11-22T13:47:35.124724Z",
            "eventName": "ObjectRemoved:Delete",
            "s3": {
                "bucket": {"name": "b", "id": "503a4c37.4332.38"},
                "object": {"key": "red%20flower/é.jpg", "size": 0, "eTag": "", "versionId": "", "sequencer": "F7",
                           "metadata": [], "tags": []},
            },
            "eventId": "1575221657.102001.80dbeb1a",
            "opaqueData": "me@example.com",
        }
    ]
}  # fmt: skip


@pytest.mark.parametrize("form", ["s3", "auto"])
@pytest.mark.parametrize(("value", "is_created"), [(AMAZON, True), (MINIO, True), (CEPH, False)])
def test_every_dialect_is_one_event(value: dict[str, Any], is_created: bool, form: Format) -> None:
    decoded = decode(value, form=form)
    [event], ids = decoded.events, decoded.ids
    assert isinstance(event, S3Event)
    assert list(ids) == [""]
    [found] = event.records
    assert (found.key, found.s3.bucket.name, found.is_created) == ("red flower/é.jpg", "b", is_created)
    [written] = value["Records"]
    described = found.s3.object
    assert (described.size, described.e_tag) == (written["s3"]["object"]["size"], written["s3"]["object"]["eTag"])
    assert described.version_id == written["s3"]["object"].get("versionId")
    assert described.sequencer == written["s3"]["object"]["sequencer"]
    assert found.event_time == datetime.fromisoformat(written["eventTime"])


@pytest.mark.parametrize(
    ("name", "is_created"),
    [
        ("ObjectCreated:Put", True),
        ("s3:ObjectCreated:Copy", True),
        ("ObjectCreated:*", True),
        ("ObjectRemoved:Delete", False),
        ("s3:ObjectRemoved:DeleteMarkerCreated", False),
        ("ObjectCreated", False),
        ("objectcreated:Put", False),
        ("s3:s3:ObjectCreated:Put", False),
        ("x ObjectCreated:Put", False),
    ],
)
def test_what_has_been_created_says_so(name: str, is_created: bool) -> None:
    assert told({"Records": [record() | {"eventName": name}]}).records[0].is_created == is_created


@pytest.mark.parametrize(
    "value",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2020-01-01T00:00:00.000Z", "Bucket": "b"},
        {"Event": "s3:TestEvent"},
        {"Records": []},
        {"Event": "s3:TestEvent", "Records": []},
    ],
)
def test_a_store_that_tries_whether_it_is_heard_tells_nothing(value: object) -> None:
    assert told(value).records == []


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "tombstone", ""),
        (b"", "empty", ""),
        (b" ", "json", ""),
        (b"{", "json", ""),
        (b'{"Records":[', "json", ""),
        (b'{"Records":[]}x', "json", ""),
        (b"\xff", "json", ""),
        ("s3", "envelope", "Expected `object`"),
        ([AMAZON], "envelope", "Expected `object`"),
        ({"Event": 5}, "envelope", "$.Event"),
        ({}, "schema", "`Records`"),
        ({"Event": "other"}, "schema", "`Records`"),
        ({"records": AMAZON["Records"]}, "schema", "`Records`"),
        ({"Records": None}, "schema", "$.Records"),
        ({"Records": {}}, "schema", "$.Records"),
        ({"Event": "s3:TestEvent", "Records": 5}, "schema", "$.Records"),
        ({"Records": [None]}, "schema", "$.Records[0]"),
        ({"Records": [record(), {"eventName": "x"}]}, "schema", "$.Records[1]"),
        ({"Records": [record(key="")]}, "schema", "$.Records[0].s3.object.key"),
        ({"Records": [record(key="k" * 3_073)]}, "schema", "$.Records[0].s3.object.key"),
        ({"Records": [record(size=-1)]}, "schema", "$.Records[0].s3.object.size"),
        ({"Records": [record(size="1024")]}, "schema", "$.Records[0].s3.object.size"),
        ({"Records": [record(eTag="e" * 1_025)]}, "schema", "$.Records[0].s3.object.eTag"),
        ({"Records": [record() | {"eventTime": "yesterday"}]}, "schema", "$.Records[0].eventTime"),
        ({"Records": [record() | {"eventTime": 1_577_836_800}]}, "schema", "$.Records[0].eventTime"),
        ({"Records": [record()] * (RECORDS_MAX + 1)}, "schema", "$.Records"),
        ({"Records": [record(key="a\0")]}, "nul", ""),
        ({"type": "ping", "n": 1, "Records": []}, "schema", "$.type"),
        ({"kinesis": {"data": "e30="}, "eventID": "e"}, "schema", "`Records`"),
        (b'{"x":' + b"[" * 100_000, "too_deep", ""),
        (b'{"Records":[{"x":' + b"[" * 100_000, "too_deep", ""),
    ],
)
def test_what_is_none_is_poison_that_says_where(value: object, reason: str, detail: str) -> None:
    found = poison(value)
    assert (found.reason, detail in found.detail) == (reason, True), found
    assert found.event_type in ("other", "s3.event")


def test_much_is_read_up_to_the_limits_of_a_record() -> None:
    most = {"Records": [record(key="%41" * 100)] * RECORDS_MAX, "x": "y" * 100_000}
    assert len(told(most).records) == RECORDS_MAX
    assert poison({"Records": [], "x": "y" * 1_048_576}).reason == "too_large"
    assert told({"Records": [record(eTag="e" * 1_024, key="k" * 3_072)]}).records[0].key == "k" * 3_072


def test_a_key_named_twice_is_refused_where_that_is_asked_for() -> None:
    twice = b'{"Records":[],"Records":[]}'
    assert told(twice).records == []
    assert poison(twice, strict_json=True).reason == "duplicate_key"


def test_without_a_function_it_is_of_no_known_type() -> None:
    found = poison(AMAZON, events=[Ping])
    assert (found.reason, found.event_type) == ("unknown_type", "other")


@pytest.mark.parametrize("key", HOSTILE_KEYS.values())
def test_a_key_may_hold_anything_and_is_decoded_once(key: str) -> None:
    [found] = told({"Records": [record(key=key)]}).records
    assert found.s3.object.key == key
    found.key.encode()
    if "%" not in key:
        assert found.key == key
    if "%25" in key:
        assert found.key == "uploads/%2e%2e/a"


@given(st.text(min_size=1, max_size=340).filter(lambda key: len(quote_plus(key, safe="/")) <= 3_072))
def test_an_event_of_our_own_is_told_as_a_store_would(key: str) -> None:
    event = S3Event.created("b", key, size=3, at=AT)
    [found] = msgspec.json.decode(msgspec.json.encode(event), type=S3Event).records
    assert (found.key, found.is_created, found.s3.object.size, found.event_time) == (key, True, 3, AT)


@pytest.mark.parametrize("form", ["kinesis", "base64", "json", "cloudevents", "s3", "auto"])
def test_it_travels_in_every_format(form: Format) -> None:
    event = S3Event.created("b", "uploads/a b.jpg", size=3, at=AT)
    options = StreamOptions(topics=["events", TOPIC], formats={TOPIC: form})
    sent = record_of(event, options, key="k", topic=TOPIC, event_id="e-1")
    taken = StoredRecord(0, 0, sent.key, sent.value, sent.headers)
    batch = RecordBatch(TopicPartition(TOPIC, 0), [taken], start=0, next_offset=1, nbytes=500)
    decoded = Decoder([Ping, S3Event], options, TOPIC).decode(batch)
    assert decoded.events == [event]
    assert list(decoded.ids or [""]) == ["e-1" if keeps_event_ids(form) else ""]
    assert keeps_event_ids(form) == (form not in ("base64", "json", "s3"))


def test_auto_takes_an_event_with_a_type_for_what_it_says() -> None:
    assert told({"type": "s3.event", "Records": []}, form="auto").records == []
    assert decode({"type": "ping", "n": 1, "Records": []}, form="auto").events == [Ping(1)]
    assert poison({"Records": 5}, form="auto").reason == "schema"
    assert poison({"records": []}, form="auto").reason == "unknown_type"


async def test_a_function_takes_it_from_every_topic() -> None:
    seen: list[tuple[str, str, str]] = []

    async def note(event: S3Event, ctx: Context[None]) -> None:
        seen.append((ctx.topic, ctx.event_id, event.records[0].key))

    options = StreamOptions(topics=["events", TOPIC], formats={TOPIC: "s3"})
    ours = record_of(S3Event.created("b", "a", size=1, at=AT), options, key="k", event_id="e-1")
    theirs = OutRecord(TOPIC, json.dumps(AMAZON).encode(), b"k")
    result = await testing.run(App(functions=[Stream(S3Event, note)]), [ours, theirs], options=options)
    assert result.count("ok") == 2
    assert sorted(seen) == [("events", "e-1", "a"), (TOPIC, f"{TOPIC}/0/0", "red flower/é.jpg")]


@pytest.mark.parametrize(
    ("topics", "refused"),
    [
        ({"events": "kinesis", TOPIC: "s3"}, ""),
        ({TOPIC: "s3", "events": "kinesis"}, f"s3 of topic '{TOPIC}'"),
        ({"events": "kinesis", "plain": "json"}, "json of topic 'plain'"),
    ],
)
def test_its_topic_stands_beside_the_one_the_outbox_s_events_go_to(topics: dict[str, Format], refused: str) -> None:
    async def note(event: S3Event, ctx: Context[None]) -> None: ...

    flags = {"stream.topics": list(topics), **{f"stream.formats.{name}": form for name, form in topics.items()}}
    settings = load(None, {}, flags=flags).settings
    plain, with_outbox = (App(functions=[Stream(S3Event, note)], outbox=outbox) for outbox in (None, lambda _: None))
    check_start(plain, settings, None)
    if refused:
        with pytest.raises(ConfigError, match=refused):
            check_start(with_outbox, settings, None)
    else:
        check_start(with_outbox, settings, None)
