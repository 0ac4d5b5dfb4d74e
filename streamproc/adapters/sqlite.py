"""SQLite: one writer thread, write-ahead log, calls that wait share a transaction.

SQLite allows one writer at a time, so one thread owns the connection and nobody waits for a lock of this process.
Calls that are waiting when the thread is free run in one transaction, each in a savepoint of its own: a call that
fails takes back only what it did, and nobody gets an answer before the transaction is committed.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from streamproc.errors import ConfigError

T = TypeVar("T")
Call = Callable[[sqlite3.Connection], Any]

PREFIX = "sqlite:///"
BUSY_TIMEOUT_S = 30.0
CALLS_MAX = 500


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`."""

    url: Annotated[str, Meta(description="sqlite:///relative/file or sqlite:////absolute/file")] = (
        "sqlite:///data/streamproc.db"
    )


class SqliteDatabase:
    """An open database. Use `open_sqlite`."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `call(connection)` in a transaction and returns its result once that is committed.

        What the call raises is raised here, and what it did is taken back. Raises sqlite3.Error when the transaction
        cannot begin or end: nothing of it happened then.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())
        return await answer

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            calls, self._waiting = self._waiting[:CALLS_MAX], self._waiting[CALLS_MAX:]
            work = [call for call, _ in calls]
            results = await loop.run_in_executor(self._thread, _in_one_transaction, self._connection, work)
            for (_, answer), (value, error) in zip(calls, results, strict=True):
                if answer.cancelled():
                    continue
                if error is None:
                    answer.set_result(value)
                else:
                    answer.set_exception(error)

    async def finish(self) -> None:
        """Waits for what is being written."""
        if self._writing is not None:
            await self._writing


def _in_one_transaction(connection: sqlite3.Connection, calls: Sequence[Call]) -> list[tuple[Any, Exception | None]]:
    results: list[tuple[Any, Exception | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for call in calls:
            connection.execute("SAVEPOINT one")
            try:
                results.append((call(connection), None))
            except Exception as error:
                connection.execute("ROLLBACK TO one")
                results.append((None, error))
            connection.execute("RELEASE one")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return [(None, error)] * len(calls)
    return results


@asynccontextmanager
async def open_sqlite(url: str, migrations: Path) -> AsyncIterator[SqliteDatabase]:
    """Opens a database file, made if missing, and brings it to the newest of the numbered `migrations`.

    Raises ConfigError for a URL that is none of SQLite or a file that cannot be opened.
    """
    file = _file_of(url)
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "sqlite")
    try:
        connection = await loop.run_in_executor(thread, _connect, file, migrations)
        database = SqliteDatabase(connection, thread)
        try:
            yield database
        finally:
            await database.finish()
            await loop.run_in_executor(thread, connection.close)
    finally:
        thread.shutdown()


def _file_of(url: str) -> Path:
    if not url.startswith(PREFIX) or len(url) == len(PREFIX):
        raise ConfigError(f"store.url: {url.split('@')[-1]!r} is not understood; write sqlite:///data/streamproc.db")
    return Path(url.removeprefix(PREFIX))


def _connect(file: Path, migrations: Path) -> sqlite3.Connection:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, migrations)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"store.url: {file} cannot be opened: {error}") from None
    return connection


def _migrate(connection: sqlite3.Connection, folder: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY)")
    done = connection.execute("SELECT max(version) FROM schema_version").fetchone()[0] or 0
    for file in sorted(folder.glob("*.sql")):
        number = int(file.name.partition("_")[0])
        if number > done:
            for statement in file.read_text().split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?)", (number,))
    connection.execute("COMMIT")
