"""Operations over HTTP: metrics for Prometheus, probes for orchestrators, partitions for people."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamproc.http import server
from streamproc.http.options import OpsOptions as OpsOptions
from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition


class Health(Protocol):
    """What is asked of the running process."""

    def live(self) -> str:
        """Returns why the process should be restarted; empty when that would not help."""

    def ready(self) -> str:
        """Returns why the process does no useful work, with what to do or where to look; empty when it does."""

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


@asynccontextmanager
async def serve(options: OpsOptions, health: Health, registry: CollectorRegistry) -> AsyncIterator[str]:
    """Serves until the block is left; gives the bound `host:port`, "" when off.

    Raises ConfigError when the address is not one or is taken.
    """
    if not options.listen:
        yield ""
        return
    async with server.serve(app(health, registry), options.listen, "ops.listen") as address:
        yield address
