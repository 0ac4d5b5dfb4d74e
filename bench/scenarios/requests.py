"""What a GET and a POST cost in the whole service, and by hand in Starlette on the same server."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Contender, Course, Results, measured, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, spread
from bench.topics import empty
from streamproc.adapters.broker_files import free_port
from streamproc.http.auth import sign
from streamproc.http.options import AuthOptions
from tests.postgres import Server, Shop, shop

CONNECTIONS = 32
TOKEN_S = 3_600
SETTLED = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "256MB"}
"""What a database has by default: a commit is on disk."""


@dataclass(frozen=True, slots=True)
class Api:
    """A contender that is called: its arguments, and the kind of requests; `fresh` ones get a database each round."""

    name: str
    title: str
    mode: str
    promise: str
    store: str = ""
    publish: bool = False
    log: bool = False

    @property
    def kind(self) -> str:
        """What it is asked."""
        return "get" if self.mode.endswith("get") else "post"


APIS = (
    Api("get", "GET: streamproc", "get", "token, limits, metrics, request id"),
    Api("get-logged", "GET: streamproc with its access log", "get", "token, limits, metrics, request id", log=True),
    Api("get-hand", "GET: Starlette by hand", "hand-get", "none of these"),
    Api("post-sqlite", "POST: streamproc, SQLite, relay running", "post", "row and event, published", publish=True),
    Api("post", "POST: streamproc, PostgreSQL", "post", "row and event", store="postgres"),
    Api(
        "post-relay",
        "POST: streamproc, PostgreSQL, relay running",
        "post",
        "row and event, published",
        "postgres",
        True,
    ),
    Api("post-hand", "POST: Starlette and asyncpg by hand", "hand-post", "row and event", store="postgres"),
)


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round of those that store into a new database."""
    rounds, seconds = (1, 1.5) if quick else (5, 4.0)
    with Server(SETTLED) as server, empty(target, 4) as course:
        for _ in range(rounds):
            for api in APIS:
                with _database(server, api) as database, TemporaryDirectory() as folder:
                    once = _Once(api, Path(folder), int(seconds * (8_000 if api.kind == "get" else 2_500)))
                    play([once.contender(database)], course, rounds=1, results=results, once=once)


@contextmanager
def _database(server: Server, api: Api) -> Iterator[Shop | None]:
    if not api.store:
        yield None
        return
    with shop(server.postgres) as made:
        yield made


@dataclass(frozen=True, slots=True)
class _Once:
    """One round: the contender serves, and another process calls it."""

    api: Api
    folder: Path
    count: int

    @property
    def _auth(self) -> AuthOptions:
        return AuthOptions(secret_file=str(self.folder / "secret"), development=True)

    def contender(self, database: Shop | None) -> Contender:
        """The server."""
        (self.folder / "secret").write_text("s" * 32)
        options: dict[str, Any] = {
            "port": free_port(),
            "secret": self.folder / "secret",
            "publish": int(self.api.publish),
            "log": int(self.api.log),
        }
        if database is not None:
            options |= {"store": database.app.url, "password": database.app.password}
        made = program("programs.web", self.api.mode, self.api.title, name=self.api.name, **options)
        return replace(made, guarantee=self.api.promise)

    def __call__(self, contender: Contender, course: Course) -> dict[str, Any]:
        """Runs it."""
        words = list(contender.command)
        port = words[words.index("--port") + 1]
        with measured(contender, course, count=self.count, warmup=self.count // 10) as measurement:
            command = [sys.executable, "-m", "bench.programs.callers", "--port", port, "--kind", self.api.kind]
            scopes = ["users:read", "users:write"]
            token = sign(self._auth, subject="bench", scopes=scopes, lifetime_s=TOKEN_S, now=time.time())
            command += ["--count", str(self.count + CONNECTIONS), "--connections", str(CONNECTIONS), "--token", token]
            caller = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                return measurement.take()
            finally:
                caller.kill()
                caller.wait()


COLUMNS: dict[str, Column] = {
    "requests/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/request": figure("cpu_us", "{:.0f}"),
    "spread": spread,
    "peak MiB": figure("rss_mb", "{:.0f}"),
}
SCENARIO = Scenario("requests", "requests", run, COLUMNS, plot=bars("records_per_s", "requests/s"))
