"""The web server: answers that arrive whole, limits of connections, and its end, whoever holds on to it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc import Answer, ConfigError, Created, Http, HttpContext
from streamproc.http import protocol
from streamproc.http.options import HttpOptions
from streamproc.http.server import serve_public
from tests.unit.http.rig import Rig
from tests.unit.http.wire import Echo, asked, connect, request, served, wire


class Text(Answer):
    text: str


async def give(ctx: HttpContext, length: int = 3) -> Text | None:
    return Text(text="x" * length) if length else None


async def make(ctx: HttpContext) -> Created[str]:
    return Created("ends with\r\n\r\n", location="/1")


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    made = Rig(tmp_path, Http("GET", "/", give, public=True), Http("POST", "/", make, public=True))
    async with served(made.gateway) as address:
        yield address


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_answers_of_all_kinds_arrive_whole_on_one_connection(address: str) -> None:
    async with wire(address) as caller:
        for _ in range(3):
            await caller.send(request("/?length=2000", "accept-encoding: identity", method="HEAD"))
            head = await caller.answer(of_head=True)
            assert (head.status, head.headers["content-length"]) == (200, "2011")
            empty = await caller.ask(request("/?length=0"))
            assert (empty.status, empty.body, "content-length" in empty.headers) == (204, b"", False)
            assert "transfer-encoding" not in empty.headers
            full = await caller.ask(request("/?length=2000"))
            assert len(full.body) == 2_011
            assert (await caller.ask(request("/", method="POST"))).body == b'"ends with\\r\\n\\r\\n"'
            large = await caller.ask(request("/?length=3000000"))
            assert len(large.body) == 3_000_011
            assert (await caller.ask(request("/nope"))).status == 404
        assert {"date", "x-request-id"} <= full.headers.keys()
        assert "server" not in full.headers
    for method, path in (("HEAD", "/"), ("GET", "/?length=0"), ("GET", "/")):
        async with wire(address) as caller:
            await caller.send(request(path, "connection: close", method=method))
            last = await caller.answer(of_head=method == "HEAD")
            assert (last.headers["connection"], await caller.is_closed()) == ("close", True)


async def test_bodies_that_look_like_heads_and_pieces_of_any_kind_arrive_whole() -> None:
    async def pieces(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"", b"\r\n\r\n", b"a\r\n\r\n", b"b"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"\r\n\r\n"})

    async with served(pieces) as address, wire(address) as caller:
        for _ in range(2):
            await caller.send(request("/"))
            assert (await caller.answer()).headers["transfer-encoding"] == "chunked"
            whole = await caller.reader.readuntil(b"0\r\n\r\n")
            assert whole == b"4\r\n\r\n\r\n\r\n5\r\na\r\n\r\n\r\n1\r\nb\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"


async def test_an_old_client_is_answered_and_the_connection_closed(address: str) -> None:
    async with wire(address) as caller:
        answer = await caller.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (answer.status, answer.headers["connection"], await caller.is_closed()) == (200, "close", True)


async def test_who_leaves_in_the_middle_of_its_body_is_counted_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def take(new: dict[str, Any], ctx: HttpContext) -> None: ...

    made = Rig(tmp_path, Http("POST", "/", take, public=True))
    async with served(made.gateway) as address:
        for end in (b"", b'{"a":'):
            async with wire(address) as caller:
                head = b"POST / HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
                await caller.send(head + end)
        await until(lambda: made.gateway.snapshot().answers["take"] == {499: 2})
    assert sum(made.gateway.snapshot().functions[0].calls) == 0
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_a_body_that_stops_is_408_and_frees_its_place(tmp_path: Path) -> None:
    async def take(new: dict[str, Any], ctx: HttpContext) -> None: ...

    made = Rig(tmp_path, Http("POST", "/", take, public=True, concurrency=1), head_timeout_s=0.2)
    async with served(made.gateway) as address, wire(address) as slow, wire(address) as quick:
        await slow.send(request("/", method="POST", body=b"{}")[:-1])
        for _ in range(3):
            assert (await quick.ask(request("/", method="POST", body=b"{}"))).status == 204
        answer = await slow.answer()
        assert (answer.status, answer.headers["connection"], await slow.is_closed()) == (408, "close", True)


async def test_who_does_not_read_its_answer_is_cut_off_and_holds_up_nobody() -> None:
    async with served(Echo(), head_timeout_s=0.15) as address:
        slow = [await connect(address) for _ in range(2)]
        slow[0].writer.write(request("/large"))
        slow[1].writer.write(request("/large") * 20)
        async with wire(address) as other:
            assert asked(await other.ask(request("/x")))[1] == "/x"
            assert await other.is_closed()
        await until(lambda: sockets_of(address) == 0)
        for one in slow:
            one.close()


async def test_who_reads_its_answer_slowly_gets_all_of_it() -> None:
    async with served(Echo(), head_timeout_s=0.1, keep_alive_s=0.1) as address, wire(address) as slow:
        await slow.send(request("/large"))
        await slow.reader.readuntil(b"\r\n\r\n")
        left = 8_000_000
        while left:  # in all it takes longer than any single limit
            left -= len(await slow.reader.read(300_000))
            await asyncio.sleep(0.01)


def sockets_of(address: str) -> int:
    """Connections of the server that are open, as the system knows them."""
    port = int(address.rpartition(":")[2])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(line[1].split(":")[1], 16) == port and line[3] == "01" for line in lines)


async def test_connections_over_the_limit_are_told_and_those_within_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SURPLUS_MAX", 2)
    echo = Echo()
    async with served(echo, connections_max=3, keep_alive_s=60, head_timeout_s=60) as address:
        wires = [await connect(address) for _ in range(6)]
        assert await wires[5].is_closed()  # there is no telling everybody
        for index in (4, 3):
            answer = await wires[index].ask(request("/x"))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert await wires[index].is_closed()
        for one in wires[:3]:
            assert asked(await one.ask(request("/y")))[1] == "/y"
        wires[0].close()
        async with asyncio.timeout(10):
            while echo.asked[-1] != "/z":
                async with wire(address) as again:
                    await again.ask(request("/z"))
        for one in wires:
            one.close()
    assert "/x" not in echo.asked


async def test_at_its_end_requests_are_finished_and_no_new_connection_is_taken() -> None:
    echo = Echo()
    echo.hold.clear()
    server = served(echo, stop_s=5, keep_alive_s=60)
    address = await server.__aenter__()
    busy, idle = await connect(address), await connect(address)
    await idle.ask(request("/x"))
    await busy.send(request("/held"))
    await until(lambda: "/held" in echo.asked)
    ending = asyncio.ensure_future(server.__aexit__(None, None, None))
    assert await idle.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await connect(address)
    echo.hold.set()
    answer = await busy.answer()
    assert (asked(answer)[1], answer.headers["connection"]) == ("/held", "close")
    assert await busy.is_closed()
    await ending
    assert echo.asked == ["/x", "/held"]


async def swallow(ended: asyncio.Event) -> None:
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError:
            continue


async def cut_off(app: Any, data: bytes) -> None:
    """Asks a server that then ends, and looks for how long it takes."""
    async with served(app, stop_s=0.3, keep_alive_s=60, head_timeout_s=60) as address:
        caller = await connect(address)
        await caller.send(data)
        if not isinstance(app, Echo):
            await until(lambda: app.has_begun)
        elif data != b"GET / HT":
            await until(lambda: app.asked != [])
        began = time.monotonic()
    assert time.monotonic() - began < 3
    with pytest.raises(ConnectionRefusedError):
        await connect(address)
    caller.close()


class Hangs:
    """An application that ends when it is told to, and not when it is cancelled, if it is stubborn."""

    def __init__(self, *, is_stubborn: bool) -> None:
        self.has_begun = False
        self.ended = asyncio.Event()
        self._is_stubborn = is_stubborn

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.has_begun = True
        await (swallow(self.ended) if self._is_stubborn else self.ended.wait())


async def test_what_hangs_is_cut_off_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.http.server.CANCELLED_S", 0.2)
    stubborn = Hangs(is_stubborn=True)
    await asyncio.gather(
        cut_off(stubborn, request("/")),
        cut_off(Hangs(is_stubborn=False), request("/")),
        cut_off(Echo(), request("/large") * 10),
        cut_off(Echo(), b"GET / HT"),
    )
    stubborn.ended.set()


async def test_a_call_that_nothing_ends_is_still_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.http.server.CANCELLED_S", 0.2)
    ended = asyncio.Event()

    async def hang(ctx: HttpContext) -> None:
        await swallow(ended)

    made = Rig(tmp_path, Http("GET", "/", hang, public=True))
    async with served(made.gateway, stop_s=0.1) as address:
        caller = await connect(address)
        await caller.send(request("/"))
        await until(lambda: made.gateway.busy)
    made.gateway.close()
    await asyncio.sleep(0)
    assert made.gateway.busy  # so the service knows that its loop would never end
    ended.set()
    await until(lambda: not made.gateway.busy)
    caller.close()


async def test_processes_share_an_address_only_when_they_mean_to() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None: ...

    async with serve_public(nothing, HttpOptions(listen="127.0.0.1:0"), 1.0, reuse_port=True) as address:
        async with serve_public(nothing, HttpOptions(listen=address), 1.0, reuse_port=True) as second:
            assert second == address
        with pytest.raises(ConfigError, match=r"^http\.listen: cannot listen on .*: it is in use by another program$"):
            async with serve_public(nothing, HttpOptions(listen=address), 1.0):
                pass


async def test_the_address_is_bound_before_the_block_begins() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None: ...

    async with served(nothing) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
