"""HTTP as bytes on a real socket: for requests that no client would send, and answers as they come."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from streamproc.http.options import HttpOptions
from streamproc.http.server import serve_public


class Answer(NamedTuple):
    """An answer; `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, of_head: bool = False) -> Answer:
        """The next answer, whole; `of_head` for one to HEAD, which has no body."""
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            length = 0 if of_head else int(headers.get("content-length", 0))
            return Answer(int(lines[0].split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def is_closed(self, within_s: float = 10.0) -> bool:
        """Whether the server ends the connection, without another byte."""
        try:
            async with asyncio.timeout(within_s):
                return await self.reader.read(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


class Echo:
    """Answers with what it was asked: `/unread` without a look at the body, `/held` when it may, `/large` with 8 MB."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        self.asked.append(scope["path"])
        body, more = b"", scope["path"] not in ("/unread", "/large", "/held")
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/held":
            await self.hold.wait()
        names = [name.decode() for name, _ in scope["headers"]]
        parts = [scope["method"], scope["path"], scope["query_string"].decode(), body.decode("latin-1"), names]
        data = b"x" * 8_000_000 if scope["path"] == "/large" else json.dumps(parts).encode()
        headers = [(b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


def asked(answer: Answer) -> list[Any]:
    """What an Echo says: method, path, query, body and the names of the headers."""
    assert answer.status == 200
    found: list[Any] = json.loads(answer.body)
    return found


async def connect(address: str) -> Wire:
    host, _, port = address.rpartition(":")
    return Wire(*await asyncio.open_connection(host, int(port)))


@asynccontextmanager
async def wire(address: str) -> AsyncIterator[Wire]:
    """A connection of a block."""
    connected = await connect(address)
    try:
        yield connected
    finally:
        connected.close()


@asynccontextmanager
async def served(app: Any, stop_s: float = 1.0, **options: Any) -> AsyncIterator[str]:
    """An application behind the public server, with small limits; gives its address."""
    small = {"listen": "127.0.0.1:0", "head_timeout_s": 0.3, "keep_alive_s": 0.3, "access_log": False}
    async with serve_public(app, HttpOptions(**{**small, **options}), stop_s) as address:
        yield address


def request(target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request in HTTP/1.1, with a length where it has a body."""
    lines = [f"{method} {target} HTTP/1.1", "host: x", *headers]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
