"""The times at which schedules were due, in SQLite."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_outbox import add_to_outbox
from streamproc.model import OutRecord
from streamproc.rows import Firing

KEPT_S = 90 * 86_400.0

_CLAIM = """
INSERT INTO firings (schedule, fire_at, state, lease_until, ended_at)
SELECT :schedule, :fire_at, :state, :lease_until, :ended_at
WHERE NOT EXISTS (SELECT 1 FROM firings WHERE schedule = :schedule AND fire_at > :fire_at + :kept_s)
ON CONFLICT DO NOTHING
"""
_FORGET = "DELETE FROM firings WHERE schedule = :schedule AND fire_at < :fire_at - :kept_s"
_MOVE = """
UPDATE firings SET state = :state, lease_until = :lease_until, ended_at = :ended_at
WHERE schedule = :schedule AND fire_at = :fire_at AND state NOT IN ('done', 'failed')
"""
_FIND = """
SELECT schedule, fire_at, state, lease_until, ended_at FROM firings WHERE schedule = :schedule AND fire_at = :fire_at
"""
_RUNNING = """
SELECT 1 FROM firings
WHERE schedule = ? AND fire_at < ? AND state IN ('due', 'running') AND lease_until > ? LIMIT 1
"""
_LAST = """
WITH RECURSIVE known (schedule) AS (
    SELECT min(schedule) FROM firings
    UNION ALL
    SELECT (SELECT min(schedule) FROM firings WHERE schedule > known.schedule) FROM known
    WHERE known.schedule IS NOT NULL
)
SELECT schedule, fire_at, state, lease_until, ended_at FROM known JOIN firings USING (schedule)
WHERE fire_at = (SELECT max(fire_at) FROM firings WHERE schedule = known.schedule)
"""


class SqliteFirings:
    """See the port."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def last(self) -> Mapping[str, Firing]:
        """See the port."""
        rows = await self._database.run(lambda connection: connection.execute(_LAST).fetchall())
        return {row[0]: _firing(row) for row in rows}

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        """See the port."""
        row = _row(firing) | {"kept_s": KEPT_S}

        def work(connection: sqlite3.Connection) -> bool:
            if not connection.execute(_CLAIM, row).rowcount:
                return False
            connection.execute(_FORGET, row)
            add_to_outbox(connection, [event] if event else [])
            return True

        return await self._database.run(work)

    async def move(self, firing: Firing) -> Firing | None:
        """See the port."""
        row = _row(firing)

        def work(connection: sqlite3.Connection) -> Any:
            connection.execute(_MOVE, row)
            return connection.execute(_FIND, row).fetchone()

        stored = await self._database.run(work)
        return None if stored is None else _firing(stored)

    async def running(self, schedule: str, before: datetime) -> bool:
        """See the port."""
        row = (schedule, before.timestamp(), before.timestamp())
        return await self._database.run(lambda connection: connection.execute(_RUNNING, row).fetchone()) is not None


def _row(firing: Firing) -> dict[str, object]:
    return {
        "schedule": firing.schedule,
        "fire_at": firing.fire_at.timestamp(),
        "state": firing.state,
        "lease_until": firing.lease_until.timestamp(),
        "ended_at": firing.ended_at and firing.ended_at.timestamp(),
    }


def _firing(row: Sequence[Any]) -> Firing:
    schedule, fire_at, state, lease_until, ended_at = row
    return Firing(schedule, _time(fire_at), state, _time(lease_until), None if ended_at is None else _time(ended_at))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
