"""A gateway in a process of its own, to be attacked: its memory and files are then its own too.

Prints its address, serves until its standard input ends, and logs everything. The first argument are options of
`[http]` as JSON, with `files`, the most that it may open, and `stop_s`.
"""

import asyncio
import json
import logging
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from handlers.readings import accept_readings
from streamproc import Accepted, Body, Http, HttpContext
from streamproc.adapters.prometheus_http import HttpCollector
from streamproc.http.options import HttpOptions
from streamproc.http.server import serve_public
from streamproc.tuning import tune
from tests.unit.http.rig import Rig


class New(Body):
    name: str
    size: int = 0


async def make(new: New, ctx: HttpContext) -> Accepted[int]:
    return Accepted(len(new.name))


async def find(id: str, ctx: HttpContext, q: str = "") -> list[str]:
    return [id, q]


async def hang(ctx: HttpContext) -> None:
    await asyncio.Event().wait()


FUNCTIONS = (
    Http("POST", "/things", make, public=True),
    Http("GET", "/things/{id}", find, public=True),
    Http("GET", "/private/{id}", find, name="private", scope="things:read"),
    Http("GET", "/hang", hang, public=True),
    Http("POST", "/readings", accept_readings, public=True, body_bytes_max=4_194_304),
)


class WithMetrics:
    """The gateway, and its metrics at `/metrics`."""

    def __init__(self, made: Rig) -> None:
        self._gateway = made.gateway
        self._registry = CollectorRegistry()
        self._registry.register(HttpCollector(made.gateway.snapshot))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["path"] != "/metrics":
            await self._gateway(scope, receive, send)
            return
        body = generate_latest(self._registry)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def main(folder: Path, *, files: int, stop_s: float, **options: Any) -> None:
    """Serves until nobody is there any more."""
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    made = Rig(folder, *FUNCTIONS, **{**options, "access_log": True})
    loop = asyncio.get_running_loop()
    async with serve_public(WithMetrics(made), HttpOptions(listen="127.0.0.1:0", **options), stop_s) as address:
        tune()
        print(address, made.token("things:read")["authorization"].split()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
    made.gateway.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    given = {"files": 0, "stop_s": 0.5, **json.loads(sys.argv[1])}
    with tempfile.TemporaryDirectory() as made, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(made), **given))
