"""The place of a request in a trace, and its id, whatever a caller sends."""

import re
from pathlib import Path

import pytest

from streamproc import Http, HttpContext
from streamproc.http.trace import request_id, trace
from tests.unit.http.rig import Rig

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_the_trace_goes_on_with_a_span_of_its_own_and_the_flags_of_the_caller(flags: str) -> None:
    trace_id, traceparent = trace(f"00-{TRACE}-{SPAN}-{flags}")
    assert trace_id == TRACE
    assert re.fullmatch(f"00-{TRACE}-(?!{SPAN})(?!0{{16}})[0-9a-f]{{16}}-{flags}", traceparent)


@pytest.mark.parametrize(
    "given",
    ["", "00", f"00-{TRACE}-{SPAN}", f"01-{TRACE}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01",
     f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x",
     f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-0x", f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", "\xe4" * 55,
     f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", "9" * 100_000],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_trace(given: str) -> None:
    trace_id, traceparent = trace(given)
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", trace_id)
    assert trace_id != TRACE
    assert re.fullmatch(f"00-{trace_id}-(?!0{{16}})[0-9a-f]{{16}}-00", traceparent)


def test_traces_differ() -> None:
    assert len({trace("")[1] for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("given", ["r", "A-b_c.9", "x" * 64])
def test_a_usable_request_id_is_kept(given: str) -> None:
    assert request_id(given, TRACE) == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\r\nb", "a\n", "\xe4", "a/b", "a,b", '"', "\0"])
def test_another_is_replaced_by_the_trace_id(given: str) -> None:
    assert request_id(given, TRACE) == TRACE


async def test_the_answer_names_the_request_and_the_trace_it_was_asked_in(tmp_path: Path) -> None:
    async def seen(ctx: HttpContext) -> list[str]:
        return [ctx.request_id, ctx.traceparent]

    async with Rig(tmp_path, Http("GET", "/", seen, public=True)).client() as client:
        plain = await client.get("/")
        assert "traceparent" not in plain.headers
        assert plain.json()[0] == plain.headers["x-request-id"] == plain.json()[1].split("-")[1]
        parent = f"00-{TRACE}-{SPAN}-01"
        for path, status in (("/", 200), ("/nope", 404)):
            traced = await client.get(path, headers={"traceparent": parent, "x-request-id": "r-1"})
            assert (traced.status_code, traced.headers["x-request-id"]) == (status, "r-1")
            assert traced.headers["traceparent"].split("-")[1::2] == [TRACE, "01"]
        twice = await client.get("/", headers=[("traceparent", parent), ("traceparent", parent)])
        assert twice.headers["traceparent"].split("-")[1] != TRACE
