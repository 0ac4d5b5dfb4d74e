"""Calls an API from keep-alive connections as fast as it answers, in a closed loop, with as little work as can be."""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import cast

import uvloop

READY_S = 30.0


class Caller(asyncio.Protocol):
    """One connection that sends its requests one after the other, and checks each answer's status."""

    def __init__(self, requests: Callable[[], bytes | None], status: bytes, ended: "asyncio.Future[None]") -> None:
        self._requests = requests
        self._status = b"HTTP/1.1 " + status
        self._ended = ended
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        request = self._requests()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        at = self._received.find(b"content-length: ")
        if head < 0 or len(self._received) < head + 4 + int(self._received[at + 16 : self._received.find(b"\r\n", at)]):
            return
        if not self._received.startswith(self._status):
            self._ended.set_exception(RuntimeError(f"answered {self._received[:500]!r}"))
            self._transport.close()
            return
        self._received = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def requests(kind: str, count: int, token: str) -> Callable[[], bytes | None]:
    """The requests of all connections together, None after the last."""
    left = iter(range(count))
    common = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nAccept: */*\r\n"

    def get() -> bytes | None:
        return None if next(left, None) is None else f"GET /users/u-123 HTTP/1.1\r\n{common}\r\n".encode()

    def post() -> bytes | None:
        number = next(left, None)
        if number is None:
            return None
        body = f'{{"email":"user-{number}@example.com","name":"User {number}"}}'
        head = f"POST /users HTTP/1.1\r\n{common}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    return get if kind == "get" else post


async def call(port: int, kind: str, *, count: int, connections: int, token: str) -> None:
    """Calls until all is answered, or the server is gone. Raises RuntimeError for another answer than expected."""
    loop = asyncio.get_running_loop()
    of_all, status = requests(kind, count, token), b"200" if kind == "get" else b"201"
    deadline = time.monotonic() + READY_S
    endings: list[asyncio.Future[None]] = []
    while len(endings) < connections:
        ended = loop.create_future()
        try:
            await loop.create_connection(lambda end=ended: Caller(of_all, status, end), "127.0.0.1", port)  # type: ignore[misc]
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            endings.append(ended)
    await asyncio.gather(*endings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=["get", "post"], required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--token", default="")
    told = parser.parse_args()
    uvloop.run(call(told.port, told.kind, count=told.count, connections=told.connections, token=told.token))
