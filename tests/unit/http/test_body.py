"""Reading a body: whole, within its size, and in time, in virtual time."""

import asyncio
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from streamproc import virtualtime
from streamproc.http import body as module
from streamproc.http.arguments import Refusal
from streamproc.http.body import BYTES_PER_S_MIN, Bodies, Disconnected

TIMEOUT_S = 10.0


class Caller:
    """Sends parts, each after a pause in seconds; `read` says how many were asked for."""

    def __init__(
        self, *parts: bytes | None, pause_s: float = 0.0, first_s: float | None = None, is_cut: bool = False
    ) -> None:
        self._parts = iter(parts)
        self._pause_s = pause_s
        self._first_s = pause_s if first_s is None else first_s
        self._is_cut = is_cut
        self._left = len(parts)
        self.read = 0

    async def __call__(self) -> dict[str, Any]:
        self.read += 1
        await asyncio.sleep(self._first_s if self.read == 1 else self._pause_s)
        if not self._left:
            if self._is_cut:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        self._left -= 1
        more = self._left > 0 or self._is_cut
        part = next(self._parts)
        return {"type": "http.request", "more_body": more} | ({} if part is None else {"body": part})


def read(caller: Caller, length: str = "", bytes_max: int = 100) -> bytes:
    return virtualtime.run(Bodies(TIMEOUT_S).read(caller, length, bytes_max))


def status_of(caller: Caller, length: str = "", bytes_max: int = 100) -> int:
    with pytest.raises(Refusal) as caught:
        read(caller, length, bytes_max)
    return caught.value.problem.status


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((b"",), b""),
        ((None,), b""),
        ((b"abc",), b"abc"),
        ((b"a", b"", None, b"bc"), b"abc"),
        ((b"x" * 100,), b"x" * 100),
    ],
)
def test_a_body_is_the_sum_of_its_parts(parts: Iterable[bytes | None], whole: bytes) -> None:
    assert read(Caller(*parts)) == whole


@pytest.mark.parametrize("length", ["101", "9" * 18, "9" * 20_000])
def test_a_length_over_the_limit_is_refused_before_anything_is_read(length: str) -> None:
    caller = Caller(b"x")
    assert (status_of(caller, length), caller.read) == (413, 0)


@pytest.mark.parametrize("length", ["", "0", "3", "100", "-1", "x", "1e9", "\N{SUPERSCRIPT TWO}"])
def test_no_length_is_believed(length: str) -> None:
    assert read(Caller(b"abc"), length) == b"abc"
    caller = Caller(*[b"x" * 40] * 1_000)
    assert (status_of(caller, length), caller.read) == (413, 3)


def test_a_limit_of_nothing_takes_nothing() -> None:
    assert read(Caller(b""), "0", bytes_max=0) == b""
    assert status_of(Caller(b"x"), bytes_max=0) == 413


def test_who_leaves_in_the_middle_is_told_nothing() -> None:
    with pytest.raises(Disconnected):
        read(Caller(b"abc", is_cut=True), "100")


@pytest.mark.parametrize("caller", [Caller(), Caller(b"a", None, pause_s=TIMEOUT_S + 1), Caller(b"a", b"b", pause_s=6)])
def test_who_stops_or_dawdles_is_408_and_cut_off(caller: Caller) -> None:
    with pytest.raises(Refusal) as caught:
        read(caller)
    assert (caught.value.problem.status, dict(caught.value.problem.headers)) == (408, {"connection": "close"})


def test_a_steady_caller_may_take_long_but_a_dripping_one_may_not() -> None:
    steady = Caller(*[b"x" * BYTES_PER_S_MIN] * 300, pause_s=1.0)
    assert len(read(steady, bytes_max=1_000_000)) == 300 * BYTES_PER_S_MIN
    dripping = Caller(*[b"x"] * 300, pause_s=1.0)
    assert status_of(dripping, bytes_max=1_000_000) == 408
    assert dripping.read <= TIMEOUT_S + 1


def test_a_body_in_small_parts_is_held_in_its_size() -> None:
    left = iter(range(20_000, -1, -1))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(2), "more_body": next(left) > 0}

    tracemalloc.start()
    body = asyncio.run(Bodies(TIMEOUT_S).read(receive, "", 1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(body), peak < 300_000) == (40_002, True)


async def test_bodies_hold_only_so_much_together_and_give_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODIES_BYTES_MAX", 250)
    bodies = Bodies(0.2)
    slow = [
        asyncio.ensure_future(bodies.read(Caller(b"x" * 100, None, pause_s=1.0, first_s=0.0), "", 1_000))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as caught:
        await bodies.read(Caller(b"x" * 100, b"x"), "", 1_000)
    assert caught.value.problem.status == 503
    assert await bodies.read(Caller(b"x" * 900), "", 1_000) == b"x" * 900  # what comes whole is not held
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(one) for one in ended] == [Refusal] * 2
    assert await bodies.read(Caller(b"x" * 200, b"x"), "", 1_000) == b"x" * 201
