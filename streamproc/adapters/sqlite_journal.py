"""The legs of workflows in SQLite."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.errors import LegEnded
from streamproc.rows import LegRecord

_WRITE = """
INSERT INTO workflow_legs (run_id, leg, fingerprint, state, attempts, started_at, ended_at, result, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, leg) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
    started_at = excluded.started_at, ended_at = excluded.ended_at, result = excluded.result, detail = excluded.detail
WHERE fingerprint = excluded.fingerprint AND (
    (state = 'failed' AND attempts < excluded.attempts) OR (state IN ('failed', 'done') AND excluded.state = 'undone')
)
"""
_READ = """
SELECT run_id, leg, fingerprint, state, attempts, started_at, ended_at, result, detail FROM workflow_legs
WHERE run_id = ? ORDER BY started_at, leg
"""


def write_leg(connection: sqlite3.Connection, record: LegRecord) -> None:
    """Writes what became of a leg, in the transaction of its effect. Raises LegEnded when that is known already."""
    if not _write(connection, record):
        raise LegEnded(record.run_id, record.leg)


def _write(connection: sqlite3.Connection, record: LegRecord) -> bool:
    times = record.started_at.timestamp(), record.ended_at.timestamp()
    row = (record.run_id, record.leg, record.fingerprint, record.state, record.attempts)
    return connection.execute(_WRITE, (*row, *times, record.result, record.detail)).rowcount > 0


class SqliteJournal:
    """See the port."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def read(self, run_id: str) -> Sequence[LegRecord]:
        """See the port."""
        rows = await self._database.run(lambda connection: connection.execute(_READ, (run_id,)).fetchall())
        return [_leg(*row) for row in rows]

    async def write(self, record: LegRecord) -> bool:
        """See the port."""
        return await self._database.run(lambda connection: _write(connection, record))


def _leg(*row: Any) -> LegRecord:
    run_id, leg, fingerprint, state, attempts, started_at, ended_at, result, detail = row
    began, ended = (datetime.fromtimestamp(seconds, UTC) for seconds in (started_at, ended_at))
    return LegRecord(run_id, leg, fingerprint, state, attempts, began, ended, result, detail)
