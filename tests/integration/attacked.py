"""A server process under attack, seen from outside, and those who attack it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.http.wire import Wire, connect, request, wire

ROOT = Path(__file__).parents[2]


class Server:
    """The process; what it logged is known when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, token: str) -> None:
        self.process = process
        self.address = address
        self.token = token
        self.log = b""

    def memory(self, which: str = "VmRSS") -> float:
        """MiB; `VmHWM` is the most since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{which}:")[1].split()[0]) / 1_024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def goes_on(self) -> bool:
        """Whether a new caller is answered."""
        async with wire(self.address) as caller:
            return (await caller.ask(request("/things/a"))).body == b'["a",""]'

    async def series(self) -> set[str]:
        async with wire(self.address) as caller:
            lines = (await caller.ask(request("/metrics"))).body.decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


@asynccontextmanager
async def serving(*, debug: bool = False, **options: Any) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(["-X", "dev"] if debug else []),
        "-m",
        "tests.integration.limits_app",
        json.dumps({"head_timeout_s": 2.0, **options}),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    logged = asyncio.ensure_future(process.stderr.read())
    try:
        server = Server(process, *(await process.stdout.readline()).decode().split())
        yield server
        process.stdin.close()
        async with asyncio.timeout(20):
            server.log = await logged
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def crowd(address: str, count: int) -> list[Wire]:
    """So many connections, as many at once as a listener's queue takes."""
    wires: list[Wire] = []
    while len(wires) < count:
        wires += await asyncio.gather(*(connect(address) for _ in range(min(500, count - len(wires)))))
    return wires


async def status_of(caller: Wire, data: bytes) -> int:
    """The status of an answer; 0 where the connection was closed instead."""
    try:
        return (await caller.ask(data)).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0
