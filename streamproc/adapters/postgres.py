"""PostgreSQL: a pool of connections. What fails at the server, or on the way to it, is a StoreError.

Nothing waits for ever: the server ends a statement after `statement_timeout_s`, and who hears nothing from it gives up
PATIENCE_S later. A connection that broke is replaced by the next call, so that the pool recovers with its server.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from streamproc.adapters.postgres_connect import (
    PATIENCE_S,
    SERVER_STATES,
    InterfaceError,
    InternalClientError,
    PostgresError,
    arguments,
    create_pool,
)
from streamproc.adapters.postgres_schema import check_schema
from streamproc.adapters.store import StoreOptions
from streamproc.errors import ConfigError, StoreError

T = TypeVar("T")

_STORE = (*SERVER_STATES, "28", "3D")  # passwords may change, and databases go, while it runs
_LOST = ("08", "57P01", "57P02")


class _ConnectionLost(StoreError):
    """The connection broke under a statement, which may have been carried out."""


class PostgresConnection:
    """What a unit of work speaks to the server with, one statement at a time. Both kinds raise StoreError."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> Sequence[Any]:
        """The rows of a statement; its parameters are $1, $2 and so on."""
        with _telling():
            rows: Sequence[Any] = await self._connection.fetch(sql, *args)
            return rows

    async def execute(self, sql: str, *args: object) -> int:
        """How many rows a statement changed."""
        with _telling():
            status: str = await self._connection.execute(sql, *args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    def discard(self) -> None:
        """Breaks the connection, and with it all that the server holds for it; the pool makes a new one."""
        _break(self._connection)


class PostgresDatabase:
    """An open database, for the event loop that opened it. Made by `open_postgres`."""

    def __init__(self, pool: Any, patience_s: float) -> None:
        self._pool = pool
        self._patience_s = patience_s

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PostgresConnection]:
        """A connection of one's own. Raises StoreError when none becomes free, or can be made, in time."""
        async with self._acquired() as connection:
            yield PostgresConnection(connection)

    async def run(self, work: Callable[[PostgresConnection], Awaitable[T]]) -> T:
        """Runs `work(connection)` in a transaction and returns its result once committed.

        What `work` raises is raised here and its changes are taken back. Raises StoreError: nothing was changed then,
        unless the connection broke while it committed. So a call that is repeated must find what it did before.
        """
        async with self._acquired() as connection:
            transaction = connection.transaction()
            try:
                with _telling():
                    await transaction.start()
                result = await work(PostgresConnection(connection))
            except BaseException:
                await _roll_back(connection, transaction)
                raise
            with _telling():
                await transaction.commit()
            return result

    async def fetch(self, sql: str, *args: object) -> Sequence[Any]:
        """The rows of one statement, in a transaction of its own.

        It must be one that may be repeated: it is, once, when the connection breaks under it. Raises StoreError.
        """
        return await self._repeatable(lambda connection: connection.fetch(sql, *args))

    async def execute(self, sql: str, *args: object) -> int:
        """How many rows one statement changed; as with `fetch`, it must be one that may be repeated."""
        return await self._repeatable(lambda connection: connection.execute(sql, *args))

    async def _repeatable(self, statement: Callable[[PostgresConnection], Awaitable[T]]) -> T:
        with suppress(_ConnectionLost):
            async with self.connection() as connection:
                return await statement(connection)
        async with self.connection() as connection:
            return await statement(connection)

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Any]:
        if self._pool.is_closing():
            raise RuntimeError("the database is closed")
        with _telling(f"no connection within {self._patience_s:g} s"):
            connection = await self._pool.acquire(timeout=self._patience_s)
        try:
            yield connection
        finally:
            with suppress(OSError, InterfaceError, PostgresError):  # it is closed then
                await self._pool.release(connection)


async def _roll_back(connection: Any, transaction: Any) -> None:
    try:
        await transaction.rollback()
    except Exception:
        _break(connection)  # and the server rolls back


def _break(connection: Any) -> None:
    with suppress(InterfaceError):  # it broke before
        connection.terminate()


@contextmanager
def _telling(late: str = "no answer in time") -> Iterator[None]:
    """Turns what the person who runs the database must know, or what passes, into StoreError."""
    try:
        yield
    except TimeoutError as error:
        raise StoreError(f"PostgreSQL: {late}") from error
    except (OSError, ConfigError) as error:
        raise StoreError(f"PostgreSQL: {error}") from error
    except InternalClientError as error:  # a farewell of the server came in, and not yet the end of the connection
        raise _ConnectionLost(f"PostgreSQL: {error}") from error
    except InterfaceError as error:
        if type(error) is not InterfaceError or "in progress" in str(error):
            raise  # wrong use
        raise _ConnectionLost(f"PostgreSQL: {error}") from error
    except PostgresError as error:
        state = error.sqlstate or ""
        if not state.startswith(_STORE):
            raise
        kind = _ConnectionLost if state.startswith(_LOST) else StoreError
        raise kind(f"PostgreSQL: {type(error).__name__}: {error.args[0]}") from error


@asynccontextmanager
async def open_postgres(options: StoreOptions, migrations: Path | None) -> AsyncIterator[PostgresDatabase]:
    """Opens a database that has had all migrations: those in `migrations`/postgres, and the package's.

    Connections are made when they are needed. At the end, calls under way are finished. Raises ConfigError for a wrong
    address, user or password, and for a schema that does not fit; StoreError when the server does not answer.
    """
    await check_schema(options, migrations)
    patience_s = options.statement_timeout_s + PATIENCE_S
    pool = create_pool(**arguments(options), min_size=0, max_size=options.connections_max, reset=_keep)
    await pool
    try:
        yield PostgresDatabase(pool, patience_s)
    finally:
        with suppress(TimeoutError):  # the rest is broken off then
            async with asyncio.timeout(patience_s):
                await pool.close()


async def _keep(connection: Any) -> None:
    """Does nothing, where the pool's own reset costs a round trip: nobody here changes what a connection is set to."""
