"""The rows B1 to B26 of the fault matrix, and B31, as cases; a case's id begins with its row."""

import base64
import json
from collections.abc import Iterator
from itertools import chain

from tests.corpus.objects import object_rows
from tests.corpus.parts import (
    ORDER,
    SENSOR,
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
    sensor,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def rows() -> Iterator[Case]:
    """Every checked-in case, in the order of the rows."""
    return chain(_empty(), _base64(), _numbers(), _keys(), _text(), _documents(), _shapes(), _types(), _rest())


def _rest() -> Iterator[Case]:
    return chain(_times(), _headers(), _ids(), object_rows())


def _empty() -> Iterator[Case]:
    """B1 to B3."""
    yield case("B1-null-value", None, "tombstone")
    yield case("B1-null-value-and-key", None, "tombstone", key=None)
    yield case("B2-empty-value", b"", "empty")
    yield case("B2-empty-data", around("B2-empty-data", '""'), "empty")
    yield case("B2-whitespace", b" \n", "json")
    yield case("B3-null-key", envelope("B3-null-key", SENSOR), "ok", key=None)
    yield case("B3-empty-key", envelope("B3-empty-key", SENSOR), "ok", key=b"")
    yield case("B3-binary-key", envelope("B3-binary-key", SENSOR), "ok", key=b"\xff\x00\r\n")


def _base64() -> Iterator[Case]:
    """B4 to B8: `data` that is not strictly base64. A user's JSON has 38 bytes: its base64 ends with one `=`."""
    text = encoded(USER)
    assert text.endswith("=")
    assert not text.endswith("==")
    texts = {
        "B4-newlines": text[:20] + "\n" + text[20:],
        "B4-mime-lines": base64.encodebytes(SENSOR.encode()).decode(),
        "B4-trailing-newline": text + "\n",
        "B4-spaces": text[:20] + " " + text[20:],
        "B5-no-padding": text.rstrip("="),
        "B5-over-padding": "YWJj====",
        "B5-over-padding-of-event": text + "=",
        "B5-padding-first": "=" + text[:-1],
        "B5-one-character": "Y",
        "B7-data-after-padding": "YWI=YWI=",
        "B7-event-after-padding": text + text,
        "B8-url-safe": encoded(b"\xfb\xff\xfe" * 4).replace("+", "-").replace("/", "_"),
        "B8-non-ascii": text[:20] + "\u00e9" + text[21:],
        "B8-full-width": text[:20] + "\uff21" + text[21:],
        "B8-nul": text[:20] + "\0" + text[21:],
        "B8-not-base64": "{}",
    }
    for name, data in texts.items():
        yield case(name, around(name, json.dumps(data)), "base64", "$.kinesis.data")
    last = ALPHABET[ALPHABET.index(text[-2]) | 1]
    assert last != text[-2]
    yield case("B6-trailing-bits", around("B6-trailing-bits", json.dumps(text[:-2] + last + "=")), "ok")


def _numbers() -> Iterator[Case]:
    """B10 to B13; what nests deeper is built at test time."""
    deep = "[" * 20_000 + "]" * 20_000
    yield event_case("B10-ignored-field", USER[:-1] + f',"x":{deep}}}', "too_deep")
    yield event_case("B10-arrays-for-an-object", "[" * 2_000 + "]" * 2_000, "schema")
    yield event_case("B10-not-deep", USER[:-1] + ',"x":' + "[" * 100 + "]" * 100 + "}", "ok")
    yield event_case("B11-integer", quantity("9" * 5_000), "schema", "$.items[0].quantity")
    yield event_case("B11-float", sensor("temperature", "9" * 5_000), "schema", "$.temperature")
    yield event_case("B11-fraction", sensor("temperature", "0." + "3" * 5_000), "ok")
    yield event_case("B11-ignored-field", USER[:-1] + ',"x":' + "9" * 5_000 + "}", "ok")
    for name, number in {"2-to-the-64": 2**64, "2-to-the-63": 2**63, "2-to-the-53-plus-1": 2**53 + 1}.items():
        yield event_case(f"B12-{name}", quantity(str(number)), "ok")
    wrong = {"negative": "-1", "zero": "0", "fraction": "1.5", "text": '"1"', "bool": "true", "null": "null"}
    for name, text in wrong.items():
        yield event_case(f"B12-{name}", quantity(text), "schema", "$.items[0].quantity")
    yield event_case("B12-leading-zero", quantity("01"), "json")
    names = {"nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity", "c-nan": "nan", "c-inf": "inf"}
    for name, text in names.items():
        yield event_case(f"B13-{name}", sensor("temperature", text), "json")
    for name, text in {"1e999": "1e999", "minus-1e999": "-1e999", "text": '"NaN"'}.items():
        yield event_case(f"B13-{name}", sensor("temperature", text), "schema", "$.temperature")


def _keys() -> Iterator[Case]:
    """B14; with `strict_json` they are dead letters."""
    yield event_case("B14-duplicate-key", '{"type":"user.created","userId":"u-1","userId":"u-2"}', "ok")
    yield event_case("B14-escaped", '{"type":"user.created","userId":"u-1","user\\u0049d":"u-2"}', "ok")
    yield event_case("B14-nested", order('[{"sku":"a","sku":"b","quantity":1}]'), "ok")
    yield event_case("B14-type-twice", '{"type":"user.created","type":"user.created","userId":"u-1"}', "ok")
    yield event_case("B14-ignored-field", USER[:-1] + ',"x":{"a":1,"a":2}}', "ok")


def _text() -> Iterator[Case]:
    """B15 and B16."""
    user = USER.encode()
    raw = {
        "invalid": b"\xff",
        "overlong": b"\xc0\xaf",
        "cut": b"\xe2\x82",
        "surrogate": b"\xed\xa0\x80",
        "latin-1": b"\xe9",
    }
    for name, letters in raw.items():
        yield event_case(f"B15-utf-8-{name}", user.replace(b"u-1", letters), "encoding")
    yield event_case("B15-lone-surrogate", USER.replace("u-1", "\\ud800"), "json")
    yield event_case("B15-reversed-surrogates", USER.replace("u-1", "\\udc00\\ud800"), "json")
    yield event_case("B15-surrogate-pair", USER.replace("u-1", "\\ud83d\\ude00"), "ok")
    yield event_case("B15-ignored-field", user[:-1] + b',"x":"\xff"}', "ok")
    for form in ("utf-16", "utf-16-le", "utf-32"):
        value = around(f"B15-envelope-{form}", json.dumps(encoded(USER))).decode()
        yield event_case(f"B15-{form}", USER.encode(form), "json")
        yield case(f"B15-envelope-{form}", value.encode(form), "json")
    yield event_case("B15-bom", b"\xef\xbb\xbf" + user, "json")
    yield case("B15-envelope-bom", b"\xef\xbb\xbf" + envelope("B15-envelope-bom", USER), "json")
    yield event_case("B16-nul", USER.replace("u-1", "u\\u0000"), "nul")
    yield event_case("B16-nested", order('[{"sku":"\\u0000","quantity":1}]'), "nul")
    yield event_case("B16-raw", user.replace(b"u-1", b"u\0"), "json")
    yield event_case("B16-escaped-backslash", USER.replace("u-1", "\\\\u0000"), "ok")
    yield event_case("B16-ignored-field", USER[:-1] + ',"x":"\\u0000"}', "ok")
    yield case("B16-event-id", named('"a\\u0000b"'), "nul")


def _documents() -> Iterator[Case]:
    """B17, in the event and in the envelope."""
    texts = {
        "trailing-garbage": USER + "x",
        "trailing-comma": USER[:-1] + ",}",
        "two-documents": USER + USER,
        "two-lines": USER + "\n" + USER,
        "comment": USER[:-1] + "/* c */}",
        "single-quotes": USER.replace('"', "'"),
        "cut": USER[:-5],
        "raw-newline": USER.replace("u-1", "u\n1"),
    }
    for name, text in texts.items():
        yield event_case(f"B17-{name}", text, "json")
    good = envelope("B17-envelope", USER)
    yield case("B17-envelope-trailing-garbage", good + b"x", "json")
    yield case("B17-envelope-two-documents", good + good, "json")
    yield case("B17-envelope-cut", good[:-30], "json")
    yield case("B17-envelope-plain-text", b"hello", "json")
    yield case("B17-envelope-binary", bytes(range(256)), "json")
    yield case("B17-envelope-gzip", b"\x1f\x8b\x08\x00" + bytes(20), "json")


def _shapes() -> Iterator[Case]:
    """B18, and the events' own rules."""
    for name, text in {"number": "5", "string": '""', "null": "null", "true": "true", "array": f"[{USER}]"}.items():
        yield event_case(f"B18-{name}", text, "schema")
        yield case(f"B18-envelope-{name}", text.encode(), "envelope")
    good = envelope("B18-lambda-batch", USER)
    yield case("B18-lambda-batch", b'{"Records":[' + good + b"]}", "envelope", "`kinesis`")
    yield case("B18-bare-event", SENSOR.encode(), "envelope", "`kinesis`")
    yield case("B18-no-data", b'{"kinesis":{},"eventID":"e"}', "envelope", "$.kinesis")
    yield case("B18-null-data", around("B18-null-data", "null"), "envelope", "$.kinesis.data")
    yield case("B18-number-data", around("B18-number-data", "5"), "envelope", "$.kinesis.data")
    yield event_case("B18-empty-items", order("[]"), "schema", "$.items")
    yield event_case("B18-object-items", order("{}"), "schema", "$.items")
    yield event_case("B18-missing-field", '{"type":"user.created"}', "schema", "`userId`")
    yield event_case("B18-null-field", USER.replace('"u-1"', "null"), "schema", "$.userId")
    yield event_case("B18-empty-id", USER.replace("u-1", ""), "schema", "$.userId")
    yield event_case("B18-long-id", USER.replace("u-1", "u" * 201), "schema", "$.userId")
    yield event_case("B18-longest-id", USER.replace("u-1", "u" * 200), "ok")


def _types() -> Iterator[Case]:
    """B19 and B20."""
    texts = {
        "B19-empty": '""',
        "B19-unknown": '"user.deleted"',
        "B19-null": "null",
        "B19-number": "5",
        "B19-array": '["user.created"]',
        "B19-object": '{"a":"user.created"}',
        "B19-crlf": '"user.created\\r\\nx: y"',
        "B19-path": '"../../etc/passwd"',
        "B19-emoji": '"\\ud83d\\ude00"',
        "B19-nul": '"user.created\\u0000"',
        "B19-long": '"' + "t" * 10_000 + '"',
        "B19-quotes": '"it\'s \\"here\\""',
        "B19-label": '"x\\"} 1\\nforged{a=\\""',
        "B19-line-separator": '"a\u2028b\u0085c\u009bd"',
        "B20-upper-case": '"User.Created"',
        "B20-spaces": '" user.created "',
        "B20-full-width": '"\uff55ser.created"',
        "B20-zero-width": '"user\u200b.created"',
        "B20-cyrillic": '"user.\u0441reated"',
        "B20-combining": '"user.create\u0301d"',
    }
    for name, text in texts.items():
        yield event_case(name, f'{{"type":{text},"userId":"u-1"}}', "unknown_type", "$.type")
    yield event_case("B19-missing", '{"userId":"u-1"}', "unknown_type", "$.type")
    yield event_case("B19-empty-object", "{}", "unknown_type", "$.type")
    yield event_case("B19-type-last", '{"userId":"u-1","type":"user.created"}', "ok")
    yield event_case(
        "B19-two-types", '{"type":"user.created","type":"order.placed","userId":"u-1"}', "schema", "$.type"
    )
    yield event_case("B20-escaped", '{"type":"user\\u002ecreated","userId":"u-1"}', "ok")
    yield event_case("B20-upper-case-key", '{"Type":"user.created","userId":"u-1"}', "unknown_type", "$.type")
    yield event_case("B20-snake-case-field", '{"type":"user.created","user_id":"u-1"}', "schema", "`userId`")


def _times() -> Iterator[Case]:
    """B22."""
    texts = {
        "future": "9999-12-31T23:59:59Z",
        "past": "1969-12-31T23:59:59Z",
        "year-one": "0001-01-01T00:00:00+23:59",
        "year-zero": "0000-01-01T00:00:00Z",
        "beyond-the-last-year": "9999-12-31T23:59:59-23:59",
        "five-digit-year": "10000-01-01T00:00:00Z",
        "negative-year": "-2026-01-01T00:00:00Z",
        "leap-second": "2016-12-31T23:59:60Z",
        "offset": "2026-01-01T00:00:00+99:99",
        "no-offset": "2026-01-01T00:00:00",
        "no-time": "2026-01-01",
        "30-february": "2026-02-30T00:00:00Z",
        "hour-24": "2026-01-01T24:00:00Z",
        "empty": "",
        "text": "yesterday",
    }
    for name, text in texts.items():
        yield event_case(f"B22-{name}", sensor("timestamp", json.dumps(text)), "schema", "timestamp")
    for name, text in {"number": "1767225600", "negative": "-1", "huge": "1" * 400, "null": "null"}.items():
        yield event_case(f"B22-{name}", sensor("timestamp", text), "schema", "$.timestamp")
    yield event_case("B22-lower-case", sensor("timestamp", '"2026-01-01t00:00:00z"'), "ok")
    yield event_case("B22-nanoseconds", sensor("timestamp", '"2026-01-01T00:00:00.123456789Z"'), "ok")
    yield event_case("B22-with-offset", sensor("timestamp", '"2026-01-01T00:00:00+14:00"'), "ok")


def _headers() -> Iterator[Case]:
    """B23; many and large headers are built at test time."""
    forged: Headers = (
        ("__streamproc.errors.condition", b"forged"),
        ("__streamproc.errors.offset", b"-1"),
        ("__streamproc.errors.value.null", b"true"),
        ("__streamproc.errors.value.truncated", b"1"),
        ("__connect.errors.topic", b"forged"),
    )
    foreign: Headers = (
        ("x-dlq-reason", b"forged"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("binary", b"\xff\xfe\x00\r\n"),
        ("null", None),
        ("twice", b"1"),
        ("twice", b"2"),
        ("", b"no name"),
        ("\u00e9\r\n", b"name"),
    )
    for name, headers in {"forged": forged, "foreign": foreign}.items():
        yield case(f"B23-{name}", envelope(f"B23-{name}", USER[:-1]), "json", headers=headers)
        yield case(f"B23-{name}-ok", envelope(f"B23-{name}-ok", USER), "ok", headers=headers)


def _ids() -> Iterator[Case]:
    """B25 and B26. Whether two records with one event id are a conflict is for the function to say."""
    for name, event in {"B25-first": USER, "B25-other-body": USER.replace("u-1", "u-2")}.items():
        yield case(name, envelope("B25-first", event), "ok")
    for name, event in {"B26-collision-user": USER, "B26-collision-order": ORDER}.items():
        yield case(name, envelope("B26-collision", event), "ok")
    good = {"empty": '""', "longest": json.dumps("e" * 256), "crlf": '"a\\r\\nb"', "emoji": '"\\ud83d\\ude00"'}
    for name, text in good.items():
        yield case(f"B26-{name}", named(text), "ok")
    yield case("B26-missing", named('""').replace(b',"eventID":""', b""), "ok")
    for name, text in {"too-long": json.dumps("e" * 257), "number": "5", "null": "null"}.items():
        yield case(f"B26-{name}", named(text), "envelope", "$.eventID")
