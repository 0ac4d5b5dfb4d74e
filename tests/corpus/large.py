"""Cases that are too large to check in."""

import json
from collections.abc import Iterator

from tests.corpus.parts import (
    ORDER,
    USER,
    Case,
    Headers,
    around,
    case,
    encoded,
    envelope,
    event_case,
    named,
    order,
    quantity,
)

MEGABYTE = 1_048_576


def large_rows() -> Iterator[Case]:
    """One at a time: each is built when it is asked for."""
    yield case("B9-64-mb-of-base64", around("B9", '"' + "A" * (64 * MEGABYTE) + '"'), "too_large")
    yield case("B9-64-mb-of-nothing", b" " * (64 * MEGABYTE), "too_large")
    yield case("B9-one-byte-too-many", b"A" * (MEGABYTE + 1), "too_large")
    yield case("B9-largest", b"A" * MEGABYTE, "json")
    yield from _deep()
    yield event_case("B11-integer-of-500000-digits", quantity("9" * 500_000), "schema", "$.items[0].quantity")
    yield event_case("B19-long-type", USER.replace("user.created", "t" * 700_000), "unknown_type", "$.type")
    yield case("B19-1-mb-type", envelope("B19", USER.replace("user.created", "t" * MEGABYTE)), "too_large")
    yield from _wide()
    yield from _headers()
    yield case("B26-long-event-id", named('"' + "e" * 900_000 + '"'), "envelope", "$.eventID")
    yield case("B26-1-mb-event-id", named('"' + "e" * MEGABYTE + '"'), "too_large")


def _deep() -> Iterator[Case]:
    """What is of the wrong shape at its first bracket is not read on."""
    arrays = "[" * 100_000 + "]" * 100_000
    objects = '{"a":' * 100_000 + "1" + "}" * 100_000
    yield event_case("B10-100000-arrays", arrays, "schema")
    yield event_case("B10-100000-arrays-left-open", "[" * 100_000, "schema")
    yield event_case("B10-100000-objects", objects, "too_deep")
    yield event_case("B10-100000-in-an-ignored-field", USER[:-1] + f',"x":{arrays}}}', "too_deep")
    yield event_case("B10-100000-in-a-field", f'{{"type":"user.created","userId":{arrays}}}', "schema", "$.userId")
    yield event_case("B10-100000-in-the-type", f'{{"type":{arrays}}}', "too_deep")
    yield case("B10-100000-arrays-as-envelope", arrays.encode(), "envelope")
    value = around("B10", json.dumps(encoded(USER))).decode()
    yield case("B10-100000-in-the-envelope", (value[:-1] + f',"x":{objects}}}').encode(), "too_deep")


def _wide() -> Iterator[Case]:
    keys = ",".join(f'"k{number}":0' for number in range(1_000_000))
    yield event_case("B21-1000000-keys", USER[:-1] + f",{keys}}}", "too_large")
    yield event_case("B21-50000-keys", USER[:-1] + "," + keys[: keys.index(',"k50000"')] + "}", "ok")
    item = '{"sku":"s","quantity":1}'
    yield event_case("B21-1000000-items", order("[" + ",".join([item] * 1_000_000) + "]"), "too_large")
    yield event_case("B21-1001-items", order("[" + ",".join([item] * 1_001) + "]"), "schema", "$.items")
    yield event_case("B21-1000-items", order("[" + ",".join([item] * 1_000) + "]"), "ok")
    yield event_case("B21-300000-numbers", ORDER[:-1] + ',"x":[' + "1," * 299_999 + "1]}", "ok")


def _headers() -> Iterator[Case]:
    many: Headers = tuple((f"h{number % 10}", b"x") for number in range(1_000))
    large: Headers = (("before", b"x"), ("large", bytes(1_000_000)), ("after", b"x"))
    for name, headers in {"1000-headers": many, "1-mb-header": large}.items():
        yield case(f"B23-{name}", envelope(f"B23-{name}", USER[:-1]), "json", headers=headers)
        yield case(f"B23-{name}-ok", envelope(f"B23-{name}-ok", USER), "ok", headers=headers)
