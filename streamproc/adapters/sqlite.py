"""SQLite: one writer thread, write-ahead log, calls that wait share a transaction.

SQLite allows one writer at a time, so one thread owns the connection. The calls that wait when it is free run in one
transaction, each in a savepoint of its own: a call that fails takes back only what it did, and nobody gets a result
before the transaction is committed.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from streamproc.adapters.schema import Applied, Migration, pending, read_migrations
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError, StoreError

T = TypeVar("T")

PREFIX = "sqlite:///"
BUSY_TIMEOUT_S = 5.0
CALLS_MAX = 1_000
"""Calls in one transaction at most, so that other processes get their turn."""


class _Call:
    """What one caller wants done, and where its answer goes."""

    __slots__ = ("_answer", "_error", "_loop", "_value", "_work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], answer: "asyncio.Future[Any]") -> None:
        self._work = work
        self._answer = answer
        self._loop = answer.get_loop()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Does the work in a savepoint. Raises only what ended the whole transaction."""
        if self._answer.cancelled():
            return
        connection.execute("SAVEPOINT call")
        try:
            self._value = self._work(connection)
        except BaseException as error:
            if not connection.in_transaction:
                raise  # a full disk, for one, rolls back everything
            self._error = error
            connection.execute("ROLLBACK TO call")
        connection.execute("RELEASE call")

    def end(self, error: BaseException | None) -> None:
        """Answers from the writer thread; `error` is why nothing was committed."""
        with suppress(RuntimeError):  # its loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, error or self._error)

    def _settle(self, error: BaseException | None) -> None:
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(self._value)
        else:
            self._answer.set_exception(error)


class SqliteDatabase:
    """An open database, usable from any event loop. Made by `open_sqlite`."""

    def __init__(self, file: Path, connection: sqlite3.Connection, writer: ThreadPoolExecutor) -> None:
        self.file = file
        self._connection = connection
        self._writer = writer
        self._lock = Lock()
        self._waiting: list[_Call] = []
        self._open = True

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work(connection)` in a transaction, on the writer thread, and returns its result once committed.

        What `work` raises is raised here and its changes are taken back. It must neither begin nor end a transaction.
        Raises StoreError when the database is locked, for more than BUSY_TIMEOUT_S, when the disk is full or fails:
        nothing was changed then. Raises RuntimeError once the database is closed.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if not self._open:
                raise RuntimeError("the database is closed")
            self._waiting.append(_Call(work, answer))
            first = len(self._waiting) == 1
        if first:
            loop.run_in_executor(self._writer, self._write)
        try:
            return await answer
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise  # wrong SQL: repeating it is of no use
            raise StoreError(f"SQLite: {error}") from error

    async def close(self) -> None:
        """Finishes the calls under way and takes no more."""
        with self._lock:
            self._open = False
        await _in_thread(self._writer.submit(self._connection.close))

    def _write(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        for start in range(0, len(calls), CALLS_MAX):
            together = calls[start : start + CALLS_MAX]
            error = _commit(self._connection, together)
            for call in together:
                call.end(error)


def _commit(connection: sqlite3.Connection, calls: Sequence[_Call]) -> BaseException | None:
    """Runs calls in one transaction; what it returns ended it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for call in calls:
            call.run(connection)
        connection.execute("COMMIT")
    except BaseException as error:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return error
    return None


@asynccontextmanager
async def open_sqlite(options: StoreOptions, migrations: Path | None) -> AsyncIterator[SqliteDatabase]:
    """Opens a database file, made with its folder where missing, and applies what is new in `migrations`/sqlite.

    At the end, calls under way are finished. Raises ConfigError for an address that is not SQLite's, for a file that
    cannot be opened, and for migrations that do not fit what it has had.
    """
    file = _file_of(options.url)
    known = read_migrations("sqlite", migrations)
    with ThreadPoolExecutor(1, thread_name_prefix="sqlite") as writer:
        connection, _ = await _in_thread(writer.submit(_open, file, known))
        database = SqliteDatabase(file, connection, writer)
        try:
            yield database
        finally:
            await database.close()


def migrate_sqlite(options: StoreOptions, migrations: Path | None, *, check: bool = False) -> Sequence[Migration]:
    """Applies what is new, as opening does, and returns it; with `check` only returns it. Raises ConfigError."""
    file = _file_of(options.url)
    known = read_migrations("sqlite", migrations)
    if check and not file.exists():
        return pending(known, ())
    connection, due = _open(file, known, check=check)
    connection.close()
    return due


async def _in_thread(future: "Future[T]") -> T:
    return await asyncio.wrap_future(future)


def _file_of(url: str) -> Path:
    path = url.removeprefix(PREFIX)
    if path == url or not path.strip("/") or path.endswith("/") or set(path) & set("?#\0") or path == ":memory:":
        raise ConfigError("store.url is not the address of a SQLite file: write sqlite:///data/streamproc.db")
    return Path(path)


def _open(
    file: Path, known: Sequence[Migration], *, check: bool = False
) -> tuple[sqlite3.Connection, Sequence[Migration]]:
    """The connection, and which migrations were new; they are applied, unless this is only a check."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return _open_once(file, known, check)
        except (OSError, sqlite3.Error) as error:
            # What turns to the write-ahead log, or closes last, locks others out whatever their busy timeout.
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > give_up_at:
                raise ConfigError(f"store.url: {file} cannot be opened: {error}") from None
        time.sleep(0.02)


def _open_once(file: Path, known: Sequence[Migration], check: bool) -> tuple[sqlite3.Connection, Sequence[Migration]]:
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection, _migrate(connection, known, check)
    except BaseException:
        connection.close()
        raise


_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_version (
    part TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at REAL NOT NULL,
    PRIMARY KEY (part, version)
) STRICT, WITHOUT ROWID
"""


def _migrate(connection: sqlite3.Connection, known: Sequence[Migration], check: bool) -> Sequence[Migration]:
    with connection:  # commits, or rolls back after an error
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_VERSIONS)
        due = pending(known, _applied(connection))
        if check:
            connection.execute("ROLLBACK")
            return due
        for row, text in due:
            for statement in _statements(text):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?, ?, ?, ?, ?)", (*row, time.time()))
    return due


def _applied(connection: sqlite3.Connection) -> Sequence[Applied]:
    rows = connection.execute("SELECT part, version, name, checksum FROM schema_version ORDER BY part, version")
    return [Applied(*row) for row in rows]


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, which each end at the end of a line: executescript() would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
