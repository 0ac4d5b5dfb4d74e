"""The readings of sensors."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from handlers.stores.processed import check_keys, check_text
from streamproc.adapters.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase


class Reading(NamedTuple):
    """A row; `scope` is the function and the topic. Temperature in degrees Celsius, humidity in percent."""

    scope: str
    event_id: str
    fingerprint: bytes
    sensor_id: str
    timestamp: datetime
    temperature: float
    humidity: float
    processed_at: datetime


class Readings(Protocol):
    """Readings by event id."""

    async def upsert(self, readings: Sequence[Reading]) -> Collection[int]:
        """Stores readings in one transaction, once per event id, and counts repeats.

        Returns the indexes of those whose id belongs to a reading of other content, which is kept. Raises Refused
        with nul or too_long: nothing is stored then.
        """


Columns = Sequence[Sequence[Any]]


def _checked(readings: Sequence[Reading]) -> Columns:
    """The readings by column, none of them unfit for a database."""
    columns: Columns = list(zip(*readings, strict=True))
    if columns:
        check_keys(*set(columns[0]), *columns[1])
        check_text(*columns[3])
    return columns


_UPSERT = """
INSERT INTO readings (scope, event_id, fingerprint, sensor_id, timestamp, temperature, humidity, processed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = deliveries + 1 WHERE fingerprint = excluded.fingerprint
"""
_OTHER = "SELECT 1 FROM readings WHERE scope = ? AND event_id = ? AND fingerprint <> ?"


class SqliteReadings:
    """Readings in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading]) -> Collection[int]:
        """See the port."""
        _checked(readings)
        rows = [
            (*one[:4], one.timestamp.timestamp(), one.temperature, one.humidity, one.processed_at.timestamp())
            for one in readings
        ]

        def work(connection: sqlite3.Connection) -> Collection[int]:
            if connection.executemany(_UPSERT, rows).rowcount == len(rows):
                return ()
            others = (connection.execute(_OTHER, reading[:3]).fetchone() for reading in readings)
            return {index for index, other in enumerate(others) if other}

        return await self._database.run(work)


_COLUMNS = "scope, event_id, fingerprint, sensor_id, timestamp, temperature, humidity, processed_at"
_ARRAYS = (
    "$1::text[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[], $6::float8[], $7::float8[], $8::timestamptz[]"
)
_SAME = "WHERE readings.fingerprint = excluded.fingerprint"
_PG_UPSERT = f"""
INSERT INTO readings ({_COLUMNS}) SELECT * FROM unnest({_ARRAYS})
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = readings.deliveries + 1 {_SAME}
"""  # noqa: S608
_PG_UPSERT_SEVERAL = f"""
INSERT INTO readings ({_COLUMNS}, deliveries) SELECT * FROM unnest({_ARRAYS}, $9::integer[])
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = readings.deliveries + excluded.deliveries {_SAME}
"""  # noqa: S608
_PG_OTHERS = """
SELECT number - 1
FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS one (scope, event_id, fingerprint, number)
JOIN readings USING (scope, event_id)
WHERE readings.fingerprint <> one.fingerprint
"""


class PostgresReadings:
    """Readings in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading]) -> Collection[int]:
        """See the port."""
        columns = _checked(readings)
        if not columns:
            return ()
        if len(set(columns[1])) < len(readings):
            await self._database.run(lambda connection: _upsert_parts(connection, _parts(readings)))
        elif await self._database.execute(_PG_UPSERT, *columns) == len(readings):
            return ()
        return {row[0] for row in await self._database.fetch(_PG_OTHERS, *columns[:3])}


async def _upsert_parts(connection: "PostgresConnection", parts: Sequence[Columns]) -> None:
    for columns in parts:
        await connection.execute(_PG_UPSERT_SEVERAL, *columns)


def _parts(readings: Sequence[Reading]) -> Sequence[Columns]:
    """What goes into one statement each, where an id may come once: all that is the same as one row, and its count."""
    counts = Counter(one[:3] for one in readings)
    rows = {one[:3]: (*one, counts[one[:3]]) for one in reversed(readings)}
    parts: list[dict[Any, Any]] = []
    for content in counts:
        part = next((part for part in parts if content[:2] not in part), None)
        if part is None:
            parts.append(part := {})
        part[content[:2]] = rows[content]
    return [list(zip(*part.values(), strict=True)) for part in parts]
