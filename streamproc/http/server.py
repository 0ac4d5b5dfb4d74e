"""An embedded web server for an ASGI application: it binds, serves while a block runs, and stops within a second."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streamproc.errors import ConfigError
from streamproc.http.options import HttpOptions


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the program: uvicorn would replace its handlers and raise the signal again."""
        yield


class _Joined(asyncio.Transport):
    """A transport that sends an answer's head with its body: uvicorn writes them apart, a system call each."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._held = b""
        self._write = transport.write
        self._close = transport.close
        self.abort = transport.abort  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
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


class _Protocol(HttpToolsProtocol):
    """Closes a connection whose request's head takes too long: uvicorn itself would wait for ever."""

    head_timeout_s = 10.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Joined(transport, self.loop))
        self._head_timer = self.loop.call_later(self.head_timeout_s, transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def serve_public(
    app: Any, options: HttpOptions, stop_s: float, *, reuse_port: bool = False
) -> AbstractAsyncContextManager[str]:
    """Serves an application to callers who are not trusted, within the limits of the options."""
    protocol = type("Protocol", (_Protocol,), {"head_timeout_s": options.head_timeout_s})
    return serve(
        app,
        options.listen,
        "http.listen",
        stop_s=stop_s,
        http=protocol,
        limit_concurrency=options.connections_max,
        timeout_keep_alive=options.keep_alive_s,
        reuse_port=reuse_port,
    )


@asynccontextmanager
async def serve(
    app: Any, listen: str, setting: str, *, stop_s: float = 0.5, reuse_port: bool = False, **more: Any
) -> AsyncIterator[str]:
    """Serves an ASGI application until the block is left; gives the bound `host:port`.

    At the end no connection is taken any more, and requests in progress have `stop_s` seconds. With `reuse_port`,
    processes share the address. `more` are options of uvicorn. Raises ConfigError that names `setting` when the
    address is not one or is taken.
    """
    with _bind(listen, setting, reuse_port) as listener:
        fixed: dict[str, Any] = {
            "ws": "none",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "proxy_headers": False,
        }
        config = uvicorn.Config(app, **{"http": "httptools", "server_header": False, **fixed, **more})
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=setting)
        try:
            yield _address(listener)
        finally:
            await _stop(server, serving, stop_s)


async def _stop(server: _Server, serving: asyncio.Task[None], stop_s: float) -> None:
    server.should_exit = True
    done, _ = await asyncio.wait({serving}, timeout=stop_s)
    if not done:
        # Somebody does not read an answer, or a function goes on: uvicorn would wait for that.
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        for task in list(server.server_state.tasks):
            task.cancel()
    await serving


def _bind(listen: str, setting: str, reuse_port: bool) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{setting}: {listen!r} is not host:port, as in 127.0.0.1:9464")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # It listens already here, so that nobody is refused while the server starts.
        return socket.create_server(address[:2], family=family, backlog=2_048, reuse_port=reuse_port)
    except OSError as error:
        reason = "it is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"{setting}: cannot listen on {listen}: {reason}") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
