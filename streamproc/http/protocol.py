"""One connection of the web server: uvicorn's protocol, with the limits it lacks against callers who mean harm."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 32_768
"""Of a request's head; a token has at most 8,192. What follows a chunked body may be as long, and is ignored."""
HEADERS_MAX = 100
"""Of a request; each costs many times its bytes."""
PIPELINED_MAX = 100
"""Requests of one connection that wait for the answers before theirs."""
SURPLUS_MAX = 1_000
"""Connections over the limit that are told so; what comes beyond is cut off, so that files are left to open."""


class HeadTooLarge(httptools.HttpParserError):  # type: ignore[misc, unused-ignore]
    """A request's head has more than `HEAD_BYTES_MAX` bytes, or `HEADERS_MAX` headers."""


class _Joined(asyncio.Transport):
    """A transport that sends an answer's head with its body: uvicorn writes them apart, a system call each."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]):
        super().__init__()
        self._loop = loop
        self._closed = closed
        self._held = b""
        self._write = transport.write
        self._close = transport.close
        self.abort = transport.abort  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._write(held + data)
        elif data[-4:] == b"\r\n\r\n":
            self._held = bytes(data)
            self._loop.call_soon(self._flush)  # an answer may have no body, or a late one
        else:
            self._write(data)

    def _flush(self) -> None:
        if self._held:
            self.write(b"")

    def close(self) -> None:
        self._flush()
        self._close()
        self._closed()


class Protocol(HttpToolsProtocol):
    """A connection. `head_timeout_s` is for a head, for the rest of a body nobody waits for, and for any progress of an
    answer; of `connections_max` connections each is answered, 0 is no limit.
    """

    head_timeout_s = 10.0
    connections_max = 0
    _timer: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _advanced = False
    _in_head = False
    _chunk_bytes = 0
    _idle_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See uvicorn: a connection over the limit gets 503, or nothing where there are too many of them."""
        super().connection_made(_Joined(transport, self.loop, self._watch_writing))
        surplus = len(self.connections) - self.connections_max if self.connections_max else 0
        if surplus > SURPLUS_MAX:
            transport.abort()
            return
        if surplus > 0:
            self.app = _unavailable
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """See uvicorn: bytes that are neither a head that ends nor a body are counted, and limited."""
        self._unset_keepalive_if_required()
        self._advanced, self._chunk_bytes = False, len(data)
        try:
            self._feed(data)
            self._idle_bytes = 0 if self._advanced else self._idle_bytes + len(data)
            if self._idle_bytes > HEAD_BYTES_MAX or (self.headers and len(self.headers) > HEADERS_MAX):
                raise HeadTooLarge
        except httptools.HttpParserError as error:
            too_large = isinstance(error, HeadTooLarge) or isinstance(error.__context__, HeadTooLarge)
            self._refuse(431 if too_large else 400)
            return
        if self._in_head or (self._is_idle and self.timeout_keep_alive_task is None):
            self._start_timer()  # of the head: it is not whole, there are line ends, or a body that was not waited for

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """The head to read instead: the parser would take a body for the other protocol, or for the next request."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this is no proxy")
        headers = b"".join(b"%s: %s\r\n" % one for one in self.headers if one[0] != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, self.parser.get_http_version().encode(), headers)

    def _refuse(self, status: int) -> None:
        log.info("a connection was closed: its request is %s", "too large" if status == 431 else "no HTTP")
        body = b'{"error":"%s"}' % (b"The head of the request is too large" if status == 431 else b"Invalid request")
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """See uvicorn."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """See uvicorn: headers that follow the body are thrown away."""
        if self.parser.should_upgrade():
            return
        self._stop_timer()
        self._in_head, self._advanced = False, True
        if self.parser.get_http_version() not in ("1.0", "1.1"):  # a request without one is HTTP/0.9 to the parser
            raise httptools.HttpParserError("another version")
        if len(self.headers) > HEADERS_MAX:
            raise HeadTooLarge
        if self._idle_bytes + self._chunk_bytes > HEAD_BYTES_MAX and self._head_bytes() > HEAD_BYTES_MAX:
            raise HeadTooLarge
        if len(self.pipeline) >= PIPELINED_MAX:
            raise httptools.HttpParserError("too many requests wait")
        super().on_headers_complete()
        self.headers = []
        if self.expect_100_continue:  # a body that was not asked for may come, or not
            self.cycle.keep_alive = False

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        if self.parser.should_upgrade():
            return
        self._advanced = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """See uvicorn."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """See uvicorn."""
        super().resume_writing()
        self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._stop_timer()
        super().connection_lost(exc)
        self._stop_watching()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_writing(self) -> None:
        if self._writing is None:
            left = self.transport.get_write_buffer_size()
            self._writing = self.loop.call_later(self.head_timeout_s, self._look_at_writing, left)

    def _look_at_writing(self, before: int) -> None:
        self._writing = None
        if self.transport.get_write_buffer_size() < before:
            self._watch_writing()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


async def _unavailable(_scope: Any, _receive: Any, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
    body = b'{"error":"Too many connections"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", b"1"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
