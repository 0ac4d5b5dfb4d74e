"""Operations over HTTP: metrics for Prometheus, probes for orchestrators, partitions for people."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamproc.errors import ConfigError
from streamproc.http.options import OpsOptions as OpsOptions
from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition

STOP_S = 0.5
"""How long answers in progress may take once the server stops."""


class Health(Protocol):
    """What is asked of the running process."""

    def live(self) -> str:
        """Why the process should be restarted; empty when it is fine."""

    def ready(self) -> str:
        """Why the process does no useful work now; empty when it does."""

    def snapshots(self) -> Sequence[Snapshot]:
        """The numbers of every pipeline."""

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition, where known."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""


def app(health: Health, registry: CollectorRegistry) -> Starlette:
    """The ASGI application."""

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def livez(_request: Request) -> Response:
        return _probe(health.live())

    async def readyz(_request: Request) -> Response:
        return _probe(health.ready())

    async def partitions(_request: Request) -> Response:
        return _json(describe(health))

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/healthz", readyz),
            Route("/debug/partitions", partitions),
        ]
    )


def describe(health: Health) -> list[dict[str, Any]]:
    """Every assigned partition: offsets, lags in records, the oldest unsettled record's age in seconds."""
    ends, now = health.end_offsets(), health.now()
    partitions = [one for snapshot in health.snapshots() for one in snapshot.partitions]
    return [
        _describe(one, ends.get(one.partition), now=now) for one in sorted(partitions, key=lambda one: one.partition)
    ]


def _describe(one: PartitionSnapshot, end: int | None, *, now: float) -> dict[str, Any]:
    return {
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "epoch": one.epoch,
        "committed": one.committed,
        "done": one.done,
        "admitted": one.admitted,
        "end": end,
        "lag": None if end is None else max(0, end - one.committed),
        "backlog": None if end is None else max(0, end - one.done),
        "unsettled": one.unsettled,
        "oldest_offset": one.done if one.unsettled else None,
        "oldest_age_s": round(max(0.0, now - one.oldest_since), 3) if one.oldest_since else None,
        "blocked": one.blocked,
    }


def _probe(reason: str) -> Response:
    return _json({"status": "failed", "reason": reason}, 503) if reason else _json({"status": "ok"})


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the program: uvicorn would replace its handlers and raise the signal again."""
        yield


@asynccontextmanager
async def serve(options: OpsOptions, health: Health, registry: CollectorRegistry) -> AsyncIterator[str]:
    """Serves until the block is left, then stops within a second; gives the bound `host:port`, "" when off.

    Raises ConfigError when the address is not one or is taken.
    """
    if not options.listen:
        yield ""
        return
    with _bind(options.listen) as listener:
        config = uvicorn.Config(
            app(health, registry),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="ops")
        try:
            yield _address(listener)
        finally:
            await _stop(server, serving)


async def _stop(server: _Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    done, _ = await asyncio.wait({serving}, timeout=STOP_S)
    if not done:
        # Somebody does not read an answer: uvicorn would wait for that.
        for connection in list(server.server_state.connections):
            connection.transport.abort()
    await serving


def _bind(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"ops.listen: {listen!r} is not host:port, as in 127.0.0.1:9464")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # It listens already here, so that nobody is refused while the server starts.
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        reason = "it is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"ops.listen: cannot listen on {listen}: {reason}") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
