"""The row B31 of the fault matrix as cases: what is told of objects, in an envelope as any other event."""

import json
from collections.abc import Iterator
from typing import Any

from tests.corpus.parts import Case, event_case

HOSTILE_KEYS = {
    "parent": "uploads/../resized/a",
    "encoded-parent": "uploads/%2e%2e/a",
    "twice-encoded": "uploads/%252e%252e/a",
    "absolute": "/etc/passwd",
    "empty-segment": "uploads//a",
    "backslash": "uploads\\..\\a",
    "encoded-nul": "uploads/a%00.jpg",
    "cut-percent": "uploads/%",
    "encoded-latin-1": "uploads/%e9",
    "right-to-left": "uploads/\u202egpj.exe",
    "no-pair": "uploads/%ed%a0%80",
}


def record(**fields: object) -> dict[str, Any]:
    """A record of a new object; `fields` replace those of the object."""
    described = {"key": "uploads/a.jpg", "size": 3, "eTag": "e", "versionId": None, "sequencer": "0A", **fields}
    entity = {"s3SchemaVersion": "1.0", "bucket": {"name": "b", "arn": "arn:aws:s3:::b"}, "object": described}
    return {
        "eventVersion": "2.1",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": entity,
    }


def event(*records: object, **fields: object) -> str:
    """The event of records."""
    return json.dumps({"type": "s3.event", "Records": list(records), **fields})


def object_rows() -> Iterator[Case]:
    """B31. What a key may be is for the function to say, and thus ok here."""
    yield event_case("B31-new", event(record()), "ok")
    yield event_case("B31-nothing", event(), "ok")
    yield event_case("B31-longest-key", event(record(key="%41" * 1_024)), "ok")
    yield event_case("B31-nothing-told", event(record(size=None, eTag=None, sequencer=None)), "ok")
    for name, key in HOSTILE_KEYS.items():
        yield event_case(f"B31-key-{name}", event(record(key=key)), "ok")
    yield event_case("B31-key-nul", event(record(key="a\0")), "nul")
    wrong = {"empty": "", "too-long": "k" * 3_073, "number": 5, "null": None, "list": ["a"]}
    for name, key in wrong.items():
        yield event_case(f"B31-key-{name}", event(record(key=key)), "schema", "$.Records[0].s3.object.key")
    for name, size in {"negative": -1, "text": "3", "fraction": 0.5, "2-to-the-63": 2**63}.items():
        yield event_case(f"B31-size-{name}", event(record(size=size)), "schema", "$.Records[0].s3.object.size")
    yield event_case("B31-no-records", '{"type":"s3.event"}', "schema", "`Records`")
    yield event_case("B31-records-object", event(Records={}), "schema", "$.Records")
    yield event_case("B31-second-is-none", event(record(), {}), "schema", "$.Records[1]")
    yield event_case("B31-no-time-zone", event(record() | {"eventTime": "2026-01-01T00:00:00"}), "schema", "eventTime")
    yield event_case("B31-long-name", event(record() | {"eventName": "n" * 101}), "schema", "$.Records[0].eventName")
    yield event_case("B31-no-bucket", event(record() | {"s3": {"object": {"key": "k"}}}), "schema", "`bucket`")
    yield event_case("B31-not-an-event", json.dumps({"Records": [record()]}), "unknown_type", "$.type")
