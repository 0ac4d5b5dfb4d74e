"""An embedded web server for an ASGI application: it binds, serves while a block runs, and stops within a second."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from streamproc.errors import ConfigError
from streamproc.http.options import HttpOptions
from streamproc.http.protocol import Protocol

CANCELLED_S = 1.0
"""For functions to end that were cancelled when the server stopped."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the program: uvicorn would replace its handlers and raise the signal again."""
        yield


def serve_public(
    app: Any, options: HttpOptions, stop_s: float, *, reuse_port: bool = False
) -> AbstractAsyncContextManager[str]:
    """Serves an application to callers who are not trusted, within the limits of the options."""
    limits = {"head_timeout_s": options.head_timeout_s, "connections_max": options.connections_max}
    return serve(
        app,
        options.listen,
        "http.listen",
        stop_s=stop_s,
        http=type("PublicProtocol", (Protocol,), limits),
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
        config = uvicorn.Config(app, **{"http": Protocol, "server_header": False, **fixed, **more})
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
        await asyncio.wait({serving}, timeout=CANCELLED_S)
        server.force_exit = True  # a function goes on even now
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
