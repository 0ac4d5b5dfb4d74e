"""One connection under attack: whatever comes, it is answered or closed, in time, and nothing is kept."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState

from streamproc.http.protocol import HEAD_BYTES_MAX, HEADERS_MAX, PIPELINED_MAX, Protocol
from tests.unit.http.wire import Echo, Wire, asked, request, served, wire

POST = "POST /x HTTP/1.1\r\nhost: x\r\n"
CHUNKED = f"{POST}transfer-encoding: chunked\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nhost: x\r\n\r\n"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[tuple[Echo, str]]:
    echo = Echo()
    async with served(echo) as address:
        yield echo, address


@pytest.fixture
def echo(server: tuple[Echo, str]) -> Echo:
    server[0].asked.clear()
    return server[0]


@pytest.fixture
def address(server: tuple[Echo, str]) -> str:
    return server[1]


@pytest_asyncio.fixture(loop_scope="module")
async def caller(address: str) -> AsyncIterator[Wire]:
    async with wire(address) as connected:
        yield connected


NO_HTTP = {
    "length below 0": f"{POST}content-length: -1\r\n\r\n",
    "length no number": f"{POST}content-length: abc\r\n\r\n",
    "length in hex": f"{POST}content-length: 0x2\r\n\r\n",
    "length with a sign": f"{POST}content-length: +2\r\n\r\n",
    "length of nothing": f"{POST}content-length:\r\n\r\n",
    "length of 20,000 digits": f"{POST}content-length: {'9' * 20_000}\r\n\r\n",
    "length twice": f"{POST}content-length: 2\r\ncontent-length: 2\r\n\r\n",
    "two lengths": f"{POST}content-length: 2\r\ncontent-length: 3\r\n\r\n",
    "list of lengths": f"{POST}content-length: 2, 2\r\n\r\n",
    "length and chunked": f"{POST}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": f"{POST}transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "length in a trailer": f"{CHUNKED}0\r\ncontent-length: 5\r\n\r\n",
    "another coding": f"{POST}transfer-encoding: gzip\r\n\r\n",
    "chunked not last": f"{POST}transfer-encoding: chunked, gzip\r\n\r\n",
    "chunked misspelt": f"{POST}transfer-encoding: xchunked\r\n\r\n",
    "chunked twice": f"{POST}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "space before the colon": f"{POST}transfer-encoding : chunked\r\n\r\n",
    "vertical tab": f"{POST}transfer-encoding: \x0bchunked\r\n\r\n",
    "folded header": f"{POST}transfer-encoding:\r\n chunked\r\n\r\n",
    "chunk below 0": f"{CHUNKED}-1\r\n\r\n",
    "chunk over 64 bits": f"{CHUNKED}{'f' * 17}\r\n",
    "chunk longer than it says": f"{CHUNKED}1\r\nab\r\n0\r\n\r\n",
    "line ends of Unix": "GET / HTTP/1.1\nhost: x\n\n",
    "NUL in a header": "GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
    "CR in a header": "GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
    "space in a name": "GET / HTTP/1.1\r\nx y: a\r\n\r\n",
    "NUL in the path": "GET /\0 HTTP/1.1\r\n\r\n",
    "space in the path": "GET /a b HTTP/1.1\r\n\r\n",
    "CR in the path": "GET /a\rb HTTP/1.1\r\n\r\n",
    "Latin-1 in the path": "GET /\xff HTTP/1.1\r\n\r\n",
    "Latin-1 in the query": "GET /?\xff HTTP/1.1\r\n\r\n",
    "no path": "GET  HTTP/1.1\r\n\r\n",
    "no slash": "GET things HTTP/1.1\r\n\r\n",
    "another scheme's path": "GET http://x HTTP/1.1\r\n\r\n",
    "authority": "CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "path to connect to": "CONNECT /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "lower case": "get / HTTP/1.1\r\n\r\n",
    "no method": "BREW / HTTP/1.1\r\n\r\n",
    "another version": "GET / HTTP/9.9\r\n\r\n",
    "the next version": "GET / HTTP/2.0\r\n\r\n",
    "the first version": "GET / HTTP/0.9\r\n\r\n",
    "no version": "GET /\r\n\r\n",
    "CRLF in the query": "GET /?a=\r\nset-cookie: x HTTP/1.1\r\n\r\n",
    "preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing of it": "hello\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http_is_400_and_closed(caller: Wire, data: str) -> None:
    await caller.send(data.encode("latin-1"))
    answer = await caller.answer()
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "Invalid request"})
    assert (answer.headers["connection"], await caller.is_closed()) == ("close", True)


LARGE = {
    "header": b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    "headers": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    "a few headers too many": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MAX + 2),
    "header without end": b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000,
    "name without end": b"GET / HTTP/1.1\r\n" + b"a" * 100_000,
    "path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "path without end": b"GET /" + b"a" * 1_000_000,
    "query": b"GET /?" + b"a=b&" * 25_000 + b" HTTP/1.1\r\n\r\n",
    "line ends": b"\r\n" * 50_000,
    "trailer": CHUNKED.encode() + b"1\r\na\r\n0\r\nx: " + b"a" * 1_000_000,
    "trailers": CHUNKED.encode() + b"1\r\na\r\n0\r\n" + b"a: b\r\n" * 200_000,
    "extension of a chunk": CHUNKED.encode() + b"1;a=" + b"b" * 1_000_000,
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE.keys())
async def test_a_head_has_a_limit_however_it_comes(address: str, echo: Echo, data: bytes) -> None:
    for part_bytes in (len(data), 4_096):
        async with wire(address) as caller:
            try:
                for start in range(0, len(data), part_bytes):
                    await caller.send(data[start : start + part_bytes])
                assert (await caller.answer()).status == 431
            except (ConnectionError, asyncio.IncompleteReadError):  # it was closed before all was sent
                assert len(data) > HEAD_BYTES_MAX
            assert await caller.is_closed()
    assert "/" not in echo.asked


async def test_a_head_just_below_the_limit_is_read_in_any_pieces(caller: Wire) -> None:
    data = request("/x", f"a: {'b' * (HEAD_BYTES_MAX - 2_000)}", *["b: c"] * (HEADERS_MAX - 2))
    assert len(asked(await caller.ask(data))[4]) == HEADERS_MAX
    for start in range(0, len(data), 1_000):
        await caller.send(data[start : start + 1_000])
    assert asked(await caller.answer())[:2] == ["GET", "/x"]
    assert asked(await caller.ask(request("/y", body=b"x" * 200_000, method="POST")))[3] == "x" * 200_000


UPGRADE = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA"]


@pytest.mark.parametrize("upgrade", [UPGRADE, ["connection: upgrade", "Upgrade: websocket"]])
@pytest.mark.parametrize("pause_after", [False, True])
async def test_an_upgrade_is_ignored_and_no_body_becomes_the_next_request(
    caller: Wire, echo: Echo, upgrade: list[str], pause_after: bool
) -> None:
    whole = request("/x", *upgrade, method="POST", body=SECOND)
    head, body = whole[: -len(SECOND)], whole[-len(SECOND) :]
    if pause_after:
        await caller.send(head)
        while not echo.asked:
            await asyncio.sleep(0.005)
    await caller.send(body if pause_after else whole)
    assert asked(await caller.answer())[:4] == ["POST", "/x", "", SECOND.decode()]
    chunked = request("/y", *upgrade, "transfer-encoding: chunked", method="POST") + b"2\r\nhi\r\n0\r\n\r\n"
    await caller.send(chunked + request("/z", *upgrade) * 3)
    assert [asked(await caller.answer())[1:4:2] for _ in range(4)] == [["/y", "hi"], *[["/z", ""]] * 3]
    assert echo.asked == ["/x", "/y", "/z", "/z", "/z"]


async def test_a_trailer_is_no_header(caller: Wire) -> None:
    data = f"{CHUNKED}2\r\nhi\r\n0\r\nauthorization: Bearer x\r\nhost: y\r\n\r\n".encode()
    assert asked(await caller.ask(data))[3:] == ["hi", ["host", "transfer-encoding"]]
    assert asked(await caller.ask(request("/y")))[4] == ["host"]


async def drip(address: str, beginning: bytes, part: bytes, is_second: bool) -> float:
    """Seconds until a connection on which something comes all the time, but no end of a head, is closed."""
    async with wire(address) as caller:
        if is_second:
            await caller.ask(request("/x"))
        began = asyncio.get_running_loop().time()
        await caller.send(beginning)
        closed = asyncio.ensure_future(caller.is_closed())
        while not closed.done():
            caller.writer.write(part)
            await asyncio.sleep(0.02)
        assert await closed
        return asyncio.get_running_loop().time() - began


async def test_a_head_that_does_not_end_is_closed_in_time_however_it_drips(address: str) -> None:
    heads = [b"GET /", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nx: "]
    drips = [(b"", b"\r\n"), (b"\r\n", b"\r\n"), (b"", b""), *((head, b"a") for head in heads)]
    seconds = await asyncio.gather(*(drip(address, *one, is_second) for one in drips for is_second in (False, True)))
    assert all(0.2 < one < 3 for one in seconds)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(address: str, echo: Echo) -> None:
    echo.hold.clear()
    async with wire(address) as idle, wire(address) as busy:
        await busy.send(request("/held"))
        await idle.ask(request("/x"))
        assert await idle.is_closed(within_s=3)
        await asyncio.sleep(0.4)
        echo.hold.set()
        assert asked(await busy.answer())[1] == "/held"


async def test_requests_that_come_together_are_answered_in_their_order(caller: Wire, echo: Echo) -> None:
    echo.hold.clear()
    await caller.send(request("/held") + b"".join(request(f"/{n}", method="POST", body=b"%d" % n) for n in range(50)))
    while not echo.asked:
        await asyncio.sleep(0.005)
    assert echo.asked == ["/held"]
    echo.hold.set()
    assert [asked(await caller.answer())[1] for _ in range(51)] == ["/held", *(f"/{n}" for n in range(50))]


async def test_too_many_that_wait_are_refused(caller: Wire, echo: Echo) -> None:
    echo.hold.clear()
    await caller.send(request("/held") + request("/x") * (PIPELINED_MAX + 1))
    assert (await caller.answer()).status == 400
    assert await caller.is_closed()
    echo.hold.set()
    assert echo.asked == ["/held"]


async def test_a_body_nobody_waited_for_is_thrown_away_and_the_connection_goes_on(caller: Wire, echo: Echo) -> None:
    head = b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
    assert asked(await caller.ask(head))[1] == "/unread"
    await caller.send(b"x" * 2_999_999)
    await caller.send(b"x" + request("/next"))
    assert asked(await caller.answer())[1] == "/next"
    assert echo.asked == ["/unread", "/next"]
    assert await caller.is_closed(within_s=3)


async def test_one_that_does_not_come_in_time_closes_the_connection(address: str) -> None:
    async def ask(part: bytes) -> None:
        async with wire(address) as caller:
            await caller.ask(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n")
            closed = asyncio.ensure_future(caller.is_closed(within_s=3))
            while not closed.done():
                caller.writer.write(part)
                await asyncio.sleep(0.02)
            assert await closed

    await asyncio.gather(ask(b""), ask(b"x"))


async def test_a_body_that_waits_to_be_asked_for_is_asked_for_once_or_the_connection_ends(address: str) -> None:
    head = "{} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    async with wire(address) as caller:
        await caller.send(head.format("POST /x").encode())
        assert (await caller.answer()).status == 100
        await caller.send(b"hi")
        assert asked(await caller.answer())[3] == "hi"
    async with wire(address) as caller:
        answer = await caller.ask(head.format("POST /unread").encode())
        assert (answer.status, answer.headers["connection"], await caller.is_closed()) == (200, "close", True)


class Stuck(asyncio.Transport):
    """A transport whose last bytes nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.was_aborted = asyncio.Event()
        self.abort = self.was_aborted.set  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def close(self) -> None: ...
    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 10


async def test_a_connection_that_is_closed_with_something_left_to_send_is_cut_off(echo: Echo) -> None:
    protocol = Protocol(uvicorn.Config(echo), ServerState(), {}, asyncio.get_running_loop())
    protocol.head_timeout_s = 0.05
    transport = Stuck()
    protocol.connection_made(transport)
    protocol.data_received(b"no http")
    async with asyncio.timeout(5):
        await transport.was_aborted.wait()
    protocol.connection_lost(None)
