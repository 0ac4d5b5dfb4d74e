"""Events in SQLite that wait for the broker."""

import fcntl
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.errors import StoreError
from streamproc.model import OutRecord
from streamproc.ports import Waiting

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[tuple[str, bytes | None], ...]).decode

_INSERT = "INSERT INTO outbox (topic, key, value, headers, created_at) VALUES (?, ?, ?, ?, ?)"
_FIRST = "SELECT number, topic, value, key, headers FROM outbox ORDER BY number LIMIT ?"


def add_to_outbox(connection: sqlite3.Connection, records: Iterable[OutRecord]) -> None:
    """Writes events in the transaction of the connection. Their times and partitions are left to the broker."""
    now = time.time()
    rows = ((one.topic, one.key, one.value, _encode(one.headers), now) for one in records)
    connection.executemany(_INSERT, rows)


class SqliteOutbox:
    """The outbox of a database; the right to publish is a lock on `<file>.relay`, which dies with its process."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def relay(self) -> AbstractAsyncContextManager[Waiting | None]:
        """See the port."""
        return self._relay()

    @asynccontextmanager
    async def _relay(self) -> AsyncIterator[Waiting | None]:
        with _locked(self._database.file.with_name(f"{self._database.file.name}.relay")) as is_ours:
            yield _Waiting(self._database) if is_ours else None

    async def count(self) -> int:
        """See the port."""
        row = await self._database.run(lambda connection: connection.execute("SELECT count(*) FROM outbox").fetchone())
        return int(row[0])


class _Waiting:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def take(self, limit: int) -> Sequence[tuple[int, OutRecord]]:
        """See the port."""
        rows = await self._database.run(lambda connection: connection.execute(_FIRST, (limit,)).fetchall())
        return [(number, OutRecord(topic, value, key, _decode(headers))) for number, topic, value, key, headers in rows]

    async def remove(self, numbers: Sequence[int]) -> None:
        """See the port."""
        rows = [(number,) for number in numbers]
        await self._database.run(lambda connection: connection.executemany("DELETE FROM outbox WHERE number = ?", rows))


@contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Whether the lock on a file was free; it is held to the end of the block."""
    try:
        opened = file.open("w")
    except OSError as error:
        raise StoreError(f"SQLite: {file} cannot be opened: {error.strerror}") from error
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
