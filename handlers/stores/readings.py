"""The readings of sensors, and the alerts they raised."""

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from handlers.stores.alerts import AlertRule, raising
from handlers.stores.processed import check_keys
from streamproc.adapters.postgres_outbox import add_events
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_outbox import add_to_outbox

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase


class Reading(NamedTuple):
    """A row. Temperature in degrees Celsius, humidity in percent."""

    sensor_id: str
    timestamp: datetime
    event_id: str
    temperature: float
    humidity: float
    processed_at: datetime


class Readings(Protocol):
    """Readings by sensor and time."""

    async def upsert(self, readings: Sequence[Reading], rule: AlertRule) -> Collection[int]:
        """Stores readings, and the alerts they raise with their events, in one transaction.

        The later one of a sensor and time replaces the earlier; a repeat of the same event is counted. Returns the
        indexes of those whose event id came before, at that sensor and time, with other content, which is kept. Raises
        Refused with nul or too_long: nothing is stored then.
        """

    async def find(self, sensor_id: str, since: datetime, until: datetime, *, limit: int) -> Sequence[Reading]:
        """The first readings of a sensor from a time on and before another, in the order of their times."""

    async def count(self, since: datetime, until: datetime) -> tuple[int, int]:
        """How many readings, and how many alerts, there are from a time on and before another."""

    async def delete_before(self, moment: datetime) -> int:
        """Deletes readings, and returns how many."""


def _check(readings: Sequence[Reading]) -> None:
    """Raises Refused for what is unfit for a database."""
    check_keys(*{one.sensor_id for one in readings}, *(one.event_id for one in readings))


def _hot(readings: Sequence[Reading], rule: AlertRule, conflicts: Collection[int]) -> list[Reading]:
    above = rule.above
    return [one for index, one in enumerate(readings) if one.temperature > above and index not in conflicts]


DELETED_AT_ONCE = 10_000


async def _each(after: Callable[[str], Awaitable[str | None]]) -> AsyncIterator[str]:
    """All sensors, a query each: what is done for all readings is done in steps, so that nobody waits for long."""
    sensor = await after("")
    while sensor is not None:
        yield sensor
        sensor = await after(sensor)


_COLUMNS = "sensor_id, timestamp, event_id, temperature, humidity, processed_at"
_UPSERT = f"""
INSERT INTO readings ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (sensor_id, timestamp) DO UPDATE SET
    processed_at = CASE event_id WHEN excluded.event_id THEN processed_at ELSE excluded.processed_at END,
    event_id = excluded.event_id, temperature = excluded.temperature, humidity = excluded.humidity,
    deliveries = deliveries + 1
WHERE event_id <> excluded.event_id OR (temperature = excluded.temperature AND humidity = excluded.humidity)
"""  # noqa: S608
_OTHER = """
SELECT 1 FROM readings
WHERE sensor_id = ? AND timestamp = ? AND event_id = ? AND NOT (temperature = ? AND humidity = ?)
"""
_ALERTS = "SELECT sensor_id, timestamp FROM alerts WHERE sensor_id = ? AND timestamp BETWEEN ? AND ?"
_ALERT = "INSERT INTO alerts (sensor_id, timestamp, temperature) VALUES (?, ?, ?)"
_FIND = f"""
SELECT {_COLUMNS} FROM readings WHERE sensor_id = ? AND timestamp >= ? AND timestamp < ? ORDER BY timestamp LIMIT ?
"""  # noqa: S608
_COUNT = "SELECT count(*) FROM readings WHERE sensor_id = ? AND timestamp >= ? AND timestamp < ?"
_COUNT_ALERTS = "SELECT count(*) FROM alerts WHERE timestamp >= ? AND timestamp < ?"
_NEXT_SENSOR = "SELECT min(sensor_id) FROM readings WHERE sensor_id > ?"
_DELETE = """
DELETE FROM readings WHERE sensor_id = ?1 AND timestamp IN (
    SELECT timestamp FROM readings WHERE sensor_id = ?1 AND timestamp < ?2 ORDER BY timestamp LIMIT ?3
)
"""


class SqliteReadings:
    """Readings in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading], rule: AlertRule) -> Collection[int]:
        """See the port."""
        _check(readings)
        rows = [(one[0], one[1].timestamp(), *one[2:5], one[5].timestamp()) for one in readings]

        def work(connection: sqlite3.Connection) -> Collection[int]:
            conflicts: Collection[int] = ()
            if connection.executemany(_UPSERT, rows).rowcount != len(rows):
                others = (connection.execute(_OTHER, row[:5]).fetchone() for row in rows)
                conflicts = {index for index, other in enumerate(others) if other}
            _raise_alerts(connection, _hot(readings, rule, conflicts), rule)
            return conflicts

        return await self._database.run(work)

    async def find(self, sensor_id: str, since: datetime, until: datetime, *, limit: int) -> Sequence[Reading]:
        """See the port."""
        asked = (sensor_id, since.timestamp(), until.timestamp(), limit)
        rows = await self._database.run(lambda connection: connection.execute(_FIND, asked).fetchall())
        return [Reading(row[0], _time(row[1]), row[2], row[3], row[4], _time(row[5])) for row in rows]

    async def delete_before(self, moment: datetime) -> int:
        """See the port."""
        deleted = 0
        async for sensor in _each(self._sensor_after):
            asked = (sensor, moment.timestamp(), DELETED_AT_ONCE)
            while count := await self._run(_DELETE, asked):
                deleted += count
        return deleted

    async def count(self, since: datetime, until: datetime) -> tuple[int, int]:
        """See the port."""
        times = since.timestamp(), until.timestamp()
        readings = [await self._one(_COUNT, (sensor, *times)) async for sensor in _each(self._sensor_after)]
        return sum(readings), await self._one(_COUNT_ALERTS, times)

    async def _sensor_after(self, sensor_id: str) -> str | None:
        found: str | None = await self._one(_NEXT_SENSOR, (sensor_id,))
        return found

    async def _one(self, query: str, asked: tuple[object, ...]) -> Any:
        return (await self._database.run(lambda one: one.execute(query, asked).fetchone()))[0]

    async def _run(self, statement: str, asked: tuple[object, ...]) -> int:
        return await self._database.run(lambda one: one.execute(statement, asked).rowcount)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _raise_alerts(connection: sqlite3.Connection, hot: Sequence[Reading], rule: AlertRule) -> None:
    if not hot:
        return
    since, until = _around(hot, rule)
    asked = [(sensor_id, since.timestamp(), until.timestamp()) for sensor_id in {one.sensor_id for one in hot}]
    earlier = [row for one in asked for row in connection.execute(_ALERTS, one)]
    found = raising(hot, earlier, rule.pause)
    connection.executemany(_ALERT, [(one.sensor_id, one.timestamp.timestamp(), one.temperature) for one in found])
    add_to_outbox(connection, map(rule.event_of, found))


def _around(hot: Sequence[Reading], rule: AlertRule) -> tuple[datetime, datetime]:
    """Between which times alerts matter to these readings."""
    times = [one.timestamp for one in hot]
    return min(times) - rule.pause, max(times) + rule.pause


_ARRAYS = "$1::text[], $2::timestamptz[], $3::text[], $4::float8[], $5::float8[], $6::timestamptz[]"
_PG_UPSERT = f"""
INSERT INTO readings ({_COLUMNS}) SELECT * FROM unnest({_ARRAYS})
ON CONFLICT (sensor_id, timestamp) DO UPDATE SET
    processed_at = CASE readings.event_id WHEN excluded.event_id THEN readings.processed_at
        ELSE excluded.processed_at END,
    event_id = excluded.event_id, temperature = excluded.temperature, humidity = excluded.humidity,
    deliveries = readings.deliveries + 1
WHERE readings.event_id <> excluded.event_id
    OR (readings.temperature = excluded.temperature AND readings.humidity = excluded.humidity)
"""  # noqa: S608
_PG_OTHERS = """
SELECT number - 1
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::float8[], $5::float8[]) WITH ORDINALITY
    AS one (sensor_id, timestamp, event_id, temperature, humidity, number)
JOIN readings USING (sensor_id, timestamp, event_id)
WHERE NOT (readings.temperature = one.temperature AND readings.humidity = one.humidity)
"""
_PG_LOCK = "SELECT pg_advisory_xact_lock(1, 'alerts'::regclass::oid::int)"
_PG_ALERTS = """
SELECT sensor_id, extract(epoch FROM timestamp)::float8 FROM alerts
WHERE sensor_id = ANY ($1::text[]) AND timestamp BETWEEN $2 AND $3
"""
_PG_ALERT = """
INSERT INTO alerts (sensor_id, timestamp, temperature) SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::float8[])
"""
_PG_FIND = f"""
SELECT {_COLUMNS} FROM readings WHERE sensor_id = $1 AND timestamp >= $2 AND timestamp < $3 ORDER BY timestamp LIMIT $4
"""  # noqa: S608
_PG_COUNT = "SELECT count(*) FROM readings WHERE sensor_id = $1 AND timestamp >= $2 AND timestamp < $3"
_PG_COUNT_ALERTS = "SELECT count(*) FROM alerts WHERE timestamp >= $1 AND timestamp < $2"
_PG_NEXT_SENSOR = "SELECT min(sensor_id) FROM readings WHERE sensor_id > $1"
_PG_DELETE = """
DELETE FROM readings WHERE sensor_id = $1 AND timestamp IN (
    SELECT timestamp FROM readings WHERE sensor_id = $1 AND timestamp < $2 ORDER BY timestamp LIMIT $3
)
"""


class PostgresReadings:
    """Readings in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def upsert(self, readings: Sequence[Reading], rule: AlertRule) -> Collection[int]:
        """See the port."""
        _check(readings)
        columns = list(zip(*readings, strict=True))
        if not columns:
            return ()
        is_one_statement = len(set(zip(*columns[:2], strict=True))) == len(readings)
        if is_one_statement and not _hot(readings, rule, ()):
            if await self._database.execute(_PG_UPSERT, *columns) == len(readings):
                return ()
            return {row[0] for row in await self._database.fetch(_PG_OTHERS, *columns[:5])}
        return await self._database.run(lambda connection: _upsert(connection, readings, rule))

    async def find(self, sensor_id: str, since: datetime, until: datetime, *, limit: int) -> Sequence[Reading]:
        """See the port."""
        if "\0" in sensor_id:
            return []
        return [Reading(*row) for row in await self._database.fetch(_PG_FIND, sensor_id, since, until, limit)]

    async def delete_before(self, moment: datetime) -> int:
        """See the port."""
        deleted = 0
        async for sensor in _each(self._sensor_after):
            while count := await self._database.execute(_PG_DELETE, sensor, moment, DELETED_AT_ONCE):
                deleted += count
        return deleted

    async def count(self, since: datetime, until: datetime) -> tuple[int, int]:
        """See the port."""
        readings = [await self._one(_PG_COUNT, sensor, since, until) async for sensor in _each(self._sensor_after)]
        return sum(readings), await self._one(_PG_COUNT_ALERTS, since, until)

    async def _sensor_after(self, sensor_id: str) -> str | None:
        found: str | None = await self._one(_PG_NEXT_SENSOR, sensor_id)
        return found

    async def _one(self, query: str, *asked: object) -> Any:
        return (await self._database.fetch(query, *asked))[0][0]


async def _upsert(connection: "PostgresConnection", readings: Sequence[Reading], rule: AlertRule) -> Collection[int]:
    """In several statements. Alerts are decided by one transaction at a time, so that each sees those before it."""
    await connection.fetch(_PG_LOCK)
    for part in _parts(readings):
        await connection.execute(_PG_UPSERT, *zip(*part, strict=True))
    columns = list(zip(*readings, strict=True))
    conflicts = {row[0] for row in await connection.fetch(_PG_OTHERS, *columns[:5])}
    hot = _hot(readings, rule, conflicts)
    if hot:
        sensors = list({one.sensor_id for one in hot})
        earlier = await connection.fetch(_PG_ALERTS, sensors, *_around(hot, rule))
        found = raising(hot, [(row[0], row[1]) for row in earlier], rule.pause)
        rows = [(one.sensor_id, one.timestamp, one.temperature) for one in found]
        if rows:
            await connection.execute(_PG_ALERT, *zip(*rows, strict=True))
            await add_events(connection, list(map(rule.event_of, found)))
    return conflicts


def _parts(readings: Sequence[Reading]) -> Sequence[Sequence[Reading]]:
    """What goes into one statement each, where a sensor and time may come once; in the order of the readings."""
    parts: list[list[Reading]] = []
    seen: Counter[Any] = Counter()
    for one in readings:
        part = seen[one[:2]]
        if part == len(parts):
            parts.append([])
        parts[part].append(one)
        seen[one[:2]] += 1
    return parts
