"""The times at which schedules were due, in PostgreSQL."""

from collections.abc import Mapping
from dataclasses import astuple
from datetime import datetime
from typing import TYPE_CHECKING

from streamproc.adapters.postgres_outbox import event_of, event_values
from streamproc.model import OutRecord
from streamproc.rows import Firing

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase

_COLUMNS = "schedule, fire_at, state, lease_until, ended_at"
_MADE = f"""
made AS (
    INSERT INTO firings ({_COLUMNS})
    SELECT $1::text, $2::timestamptz, $3::text, $4::timestamptz, $5::timestamptz
    WHERE NOT EXISTS (SELECT FROM firings WHERE schedule = $1 AND fire_at > $2 + interval '90 days')
    ON CONFLICT DO NOTHING RETURNING schedule
), forgotten AS (
    DELETE FROM firings USING made WHERE firings.schedule = made.schedule AND fire_at < $2 - interval '90 days'
)
"""  # noqa: S608
_CLAIM = f"WITH {_MADE} SELECT schedule FROM made"  # noqa: S608
_CLAIM_WITH_EVENT = f"WITH {_MADE}, {event_of('made', 6)} SELECT schedule FROM made"  # noqa: S608
_MOVE = f"""
UPDATE firings SET state = $3, lease_until = $4, ended_at = $5
WHERE schedule = $1 AND fire_at = $2 AND state NOT IN ('done', 'failed') RETURNING {_COLUMNS}
"""  # noqa: S608
_FIND = f"SELECT {_COLUMNS} FROM firings WHERE schedule = $1 AND fire_at = $2"  # noqa: S608
_RUNNING = """
SELECT FROM firings
WHERE schedule = $1 AND fire_at < $2 AND state IN ('due', 'running') AND lease_until > $2 LIMIT 1
"""
_LAST = f"""
WITH RECURSIVE known (schedule) AS (
    SELECT min(schedule) FROM firings
    UNION ALL
    SELECT (SELECT min(schedule) FROM firings WHERE schedule > known.schedule) FROM known
    WHERE known.schedule IS NOT NULL
)
SELECT {_COLUMNS} FROM known JOIN firings USING (schedule)
WHERE fire_at = (SELECT max(fire_at) FROM firings WHERE schedule = known.schedule)
"""  # noqa: S608


class PostgresFirings:
    """See the port."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def last(self) -> Mapping[str, Firing]:
        """See the port."""
        return {row[0]: Firing(*row) for row in await self._database.fetch(_LAST)}

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        """See the port."""
        if event is None:
            return bool(await self._database.fetch(_CLAIM, *astuple(firing)))
        return bool(await self._database.fetch(_CLAIM_WITH_EVENT, *astuple(firing), *event_values(event)))

    async def move(self, firing: Firing) -> Firing | None:
        """See the port."""
        row = astuple(firing)
        rows = await self._database.fetch(_MOVE, *row) or await self._database.fetch(_FIND, *row[:2])
        return Firing(*rows[0]) if rows else None

    async def running(self, schedule: str, before: datetime) -> bool:
        """See the port."""
        return bool(await self._database.fetch(_RUNNING, schedule, before))
