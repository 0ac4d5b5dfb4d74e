"""SQLite: one file, one thread that writes it, numbered migrations.

Calls that wait while a transaction runs share the next one, each inside a savepoint of its own. A call fails alone
when its own work raises, and together with its neighbours when SQLite fails (locked, full) or the commit does.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from streamproc.errors import ConfigError

T = TypeVar("T")

BUSY_S = 5.0
"""How long a transaction waits for another process's before it fails with `database is locked`."""


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`."""

    url: Annotated[str, Meta(description="sqlite:///file (relative) or sqlite:////file (absolute)")] = (
        "sqlite:///data/streamproc.db"
    )


class _Raised(NamedTuple):
    error: BaseException


class _Call(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    answer: "asyncio.Future[Any]"


class SqliteDatabase:
    """A database file; used from one event loop at a time."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._waiting: list[_Call] = []
        self._running: asyncio.Future[list[Any]] | None = None
        self._open = True

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in the writer's thread and returns what it returned, once that is committed.

        What it raises rolls back what it did; it must not commit or roll back itself. Raises sqlite3.Error when
        the database is locked for longer than `BUSY_S`, full or damaged: nothing of the call is kept then. A call
        that is cancelled before its turn does nothing; after that it runs to its end.
        """
        if not self._open:
            raise sqlite3.ProgrammingError("the database is closed")
        loop = asyncio.get_running_loop()
        call = _Call(work, loop.create_future())
        self._waiting.append(call)
        if self._is_idle(loop):
            self._start(loop)
        return await call.answer  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Ends what was asked for before, then closes the file."""
        self._open = False
        loop = asyncio.get_running_loop()
        while self._running is not None and not self._is_idle(loop):
            await asyncio.wait([self._running])
        await loop.run_in_executor(self._thread, self._connection.close)

    def _is_idle(self, loop: asyncio.AbstractEventLoop) -> bool:
        # A loop that ended with a transaction under way never heard of its end; the thread still keeps the order.
        return self._running is None or self._running.get_loop() is not loop

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = [call for call in self._waiting if not call.answer.cancelled()]
        self._waiting = []
        self._running = None
        if calls:
            self._running = loop.run_in_executor(self._thread, self._transact, calls)
            self._running.add_done_callback(lambda running: self._ended(calls, running.result(), loop))

    def _ended(self, calls: Sequence[_Call], results: Sequence[Any], loop: asyncio.AbstractEventLoop) -> None:
        for call, result in zip(calls, results, strict=True):
            if call.answer.done():
                continue
            if isinstance(result, _Raised):
                call.answer.set_exception(result.error)
            else:
                call.answer.set_result(result)
        self._start(loop)

    def _transact(self, calls: Sequence[_Call]) -> list[Any]:
        db = self._connection
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [self._call(call) for call in calls]
            db.execute("COMMIT")
            return results
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            return [_Raised(error)] * len(calls)

    def _call(self, call: _Call) -> Any:
        db = self._connection
        db.execute("SAVEPOINT one_call")
        try:
            result = call.work(db)
        except BaseException as error:
            if not db.in_transaction:  # SQLite rolled back the whole transaction, as it does when the disk is full
                raise
            db.execute("ROLLBACK TO one_call")
            result = _Raised(error)
        db.execute("RELEASE one_call")
        return result


@asynccontextmanager
async def open_sqlite(url: str, migrations: Path) -> AsyncIterator[SqliteDatabase]:
    """Opens `sqlite:///file`, makes the file and its folder if missing, and applies the migrations it lacks.

    `migrations` holds `001_name.sql`, `002_name.sql` and so on. Raises ConfigError for another kind of url, for a
    file that is no usable database, and for one that was made by a later version of the program.
    """
    path = _path(url)
    with ThreadPoolExecutor(1, "sqlite") as thread:
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _connect, path, migrations)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"store.url: cannot use {path}: {error}") from error
        database = SqliteDatabase(connection, thread)
        try:
            yield database
        finally:
            await database.close()


def _path(url: str) -> Path:
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path or "?" in path:
        raise ConfigError(
            "store.url: expected sqlite:///data/shop.db (relative) or sqlite:////var/lib/shop.db (absolute)"
        )
    return Path(path)


def _connect(path: Path, migrations: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up_at = time.monotonic() + BUSY_S
    while True:
        try:
            return _connect_once(path, migrations)
        except sqlite3.OperationalError as error:
            # Turning to WAL, or closing the last connection, locks others out without regard to the timeout.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)


def _connect_once(path: Path, migrations: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        _migrate(db, migrations)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, folder: Path) -> None:
    scripts = sorted(folder.glob("*.sql"))
    db.execute("BEGIN IMMEDIATE")
    with db:
        db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        (applied,) = db.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        if applied > len(scripts):
            raise ConfigError(f"store.url: the database has version {applied}, this program knows {len(scripts)}")
        for version, script in enumerate(scripts, 1):
            if script.name[:4] != f"{version:03}_":
                raise ConfigError(f"{script}: expected {version:03}_name.sql: migrations count from 001 without a gap")
            if version > applied:
                for statement in _statements(script.read_text("utf-8")):
                    db.execute(statement)
                db.execute("INSERT INTO schema_version VALUES (?, ?)", (version, script.stem))


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit what is open, so that half a migration could stay.
    statement = ""
    for part in re.split(r"(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
