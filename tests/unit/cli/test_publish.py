"""`publish`: what becomes of a line, checked with the decoder that will read it."""

import io
import json

import pytest

from streamproc.cli.publish import events, lines
from streamproc.errors import ConfigError
from streamproc.stream.options import StreamOptions
from tests.unit.cli.conftest import Streamproc

LINE = b'{"type": "order.placed", "orderId": "o-1"}'


def test_the_format_is_that_of_the_topic() -> None:
    options = StreamOptions(format="kinesis", formats={"plain": "json"})
    [record] = events(io.BytesIO(LINE + b"\n\n"), topic="plain", key="orderId", options=options)
    assert (record.topic, record.value, record.key) == ("plain", LINE, b"o-1")
    [record] = events(io.BytesIO(LINE), topic="events", key=None, options=options)
    assert record.key is None
    assert "kinesis" in json.loads(record.value or b"")


def test_raw_lines_are_sent_as_they_are() -> None:
    assert [record.value for record in lines(io.BytesIO(b"\xff\x00 \r\n\nnot json"), "t")] == [
        b"\xff\x00 ",
        b"not json",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json", "line 2: not JSON"),
        (b'{"type": "x", "n": NaN}', "line 2: not JSON"),
        (b'{"type": "x", "n": 1e999}', "line 2: not JSON"),
        (b"[1]", "line 2: not an event"),
        (b'{"type": 3}', "line 2: not an event"),
        (b'{"orderId": "o-1"}', "line 2: not an event"),
        (b'{"type": "x"}', "line 2: the event has no field 'orderId'"),
    ],
)
def test_a_bad_line_is_told_by_its_number(line: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        list(events(io.BytesIO(LINE + b"\n" + line), topic="t", key="orderId", options=StreamOptions()))


def test_a_key_needs_events(streamproc: Streamproc) -> None:
    result = streamproc("publish", "--raw", "--key", "orderId", input="x")
    assert result.exit_code == 2
    assert "--key needs events" in result.stderr
