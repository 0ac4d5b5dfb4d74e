"""Events in PostgreSQL that wait for the broker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from streamproc.errors import StoreError
from streamproc.model import OutRecord
from streamproc.ports import Waiting

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[tuple[str, bytes | None], ...]).decode

_LOCK = 0x6F7574  # "out": an advisory lock, with the number of the table
_TRY = "SELECT pg_try_advisory_lock($1, 'outbox'::regclass::oid::int) AS is_ours"
_FREE = "SELECT pg_advisory_unlock($1, 'outbox'::regclass::oid::int)"
_FIRST = "SELECT number, topic, value, key, headers FROM outbox ORDER BY number LIMIT $1"
_ADD = """
INSERT INTO outbox (topic, key, value, headers)
SELECT topic, key, value, headers
FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY
    AS one (topic, key, value, headers, number)
ORDER BY number
"""
_REMOVE = "DELETE FROM outbox WHERE number = ANY ($1::bigint[])"


def event_of(source: str, first: int) -> str:
    """A part of a WITH clause: writes an event if `source`, another part, has a row.

    The event is the parameters from number `first` on, the four of `event_values`.
    """
    topic, key, value, headers = (f"${number}" for number in range(first, first + 4))
    return (
        f"event AS (INSERT INTO outbox (topic, key, value, headers) "  # noqa: S608  (names of the program)
        f"SELECT {topic}::text, {key}::bytea, {value}::bytea, {headers}::bytea FROM {source})"
    )


def event_values(record: OutRecord) -> tuple[str, bytes | None, bytes | None, bytes]:
    """The values of an event's row. Its time and partition are left to the broker."""
    return record.topic, record.key, record.value, _encode(record.headers)


async def add_events(connection: "PostgresConnection", records: Sequence[OutRecord]) -> None:
    """Writes events in the transaction of the connection, in their order."""
    await connection.execute(_ADD, *zip(*map(event_values, records), strict=True))


class PostgresOutbox:
    """The outbox of a database; the right to publish is a lock of the connection that publishes."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    def relay(self) -> AbstractAsyncContextManager[Waiting | None]:
        """See the port."""
        return self._relay()

    @asynccontextmanager
    async def _relay(self) -> AsyncIterator[Waiting | None]:
        async with self._database.connection() as connection:
            if (await connection.fetch(_TRY, _LOCK))[0]["is_ours"]:
                async with _freed(connection):
                    yield _Waiting(connection)
                return
        yield None

    async def count(self) -> int:
        """See the port."""
        rows = await self._database.fetch("SELECT count(*) FROM outbox")
        return int(rows[0][0])


class _Waiting:
    def __init__(self, connection: "PostgresConnection") -> None:
        self._connection = connection

    async def take(self, limit: int) -> Sequence[tuple[int, OutRecord]]:
        """See the port."""
        rows = await self._connection.fetch(_FIRST, limit)
        return [(number, OutRecord(topic, value, key, _decode(headers))) for number, topic, value, key, headers in rows]

    async def remove(self, numbers: Sequence[int]) -> None:
        """See the port."""
        await self._connection.execute(_REMOVE, numbers)


@asynccontextmanager
async def _freed(connection: "PostgresConnection") -> AsyncIterator[None]:
    """Frees the lock at the end of the block, if need be together with the connection."""
    is_free = False
    try:
        yield
    finally:
        try:
            await connection.execute(_FREE, _LOCK)
            is_free = True
        except StoreError:
            pass
        finally:
            if not is_free:
                connection.discard()
