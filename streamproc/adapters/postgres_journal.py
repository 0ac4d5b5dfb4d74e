"""The legs of workflows in PostgreSQL."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamproc.adapters.together import Together
from streamproc.errors import LegEnded
from streamproc.rows import LegRecord

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase

_COLUMNS = "run_id, leg, fingerprint, state, attempts, started_at, ended_at, result, detail"
_TYPES = ("text", "text", "bytea", "text", "integer", "timestamptz", "timestamptz", "text", "text")
_CONFLICT = """
ON CONFLICT (run_id, leg) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
    started_at = excluded.started_at, ended_at = excluded.ended_at, result = excluded.result, detail = excluded.detail
WHERE workflow_legs.fingerprint = excluded.fingerprint AND (
    (workflow_legs.state = 'failed' AND workflow_legs.attempts < excluded.attempts)
    OR (workflow_legs.state IN ('failed', 'done') AND excluded.state = 'undone')
)
RETURNING run_id
"""
_READ = f"SELECT {_COLUMNS} FROM workflow_legs WHERE run_id = ANY ($1::text[]) ORDER BY started_at, leg"  # noqa: S608
_ARRAYS = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, 1))
_WRITE = f"INSERT INTO workflow_legs ({_COLUMNS}) SELECT * FROM unnest({_ARRAYS}) {_CONFLICT}, leg"  # noqa: S608


def leg_of(source: str, first: int) -> str:
    """A part of a WITH clause, `leg`: writes what became of a leg if `source`, another part, has a row.

    The leg is the parameters from number `first` on, the nine of `leg_values`. It has a row where that was news: an
    effect must depend on it, and LegEnded be raised without it.
    """
    values = ", ".join(f"${first + number}::{kind}" for number, kind in enumerate(_TYPES))
    return f"leg AS (INSERT INTO workflow_legs ({_COLUMNS}) SELECT {values} FROM {source} {_CONFLICT})"  # noqa: S608


def leg_values(record: LegRecord) -> tuple[object, ...]:
    """The values of a leg's row."""
    return (
        record.run_id,
        record.leg,
        record.fingerprint,
        record.state,
        record.attempts,
        record.started_at,
        record.ended_at,
        record.result,
        record.detail,
    )


async def write_leg(connection: "PostgresConnection", record: LegRecord) -> None:
    """Writes what became of a leg, in the transaction of its effect. Raises LegEnded when that is known already."""
    if not await connection.fetch(_WRITE, *zip(leg_values(record), strict=True)):
        raise LegEnded(record.run_id, record.leg)


async def has_ended(database: "PostgresDatabase", record: LegRecord) -> bool:
    """Whether a leg ended before, so that writing it is no news."""
    return bool(await database.fetch(_ENDED, record.run_id, record.leg))


_ENDED = "SELECT run_id FROM workflow_legs WHERE run_id = $1 AND leg = $2 AND state <> 'failed'"


class PostgresJournal:
    """See the port. Runs that are asked for at once are read, and written, together."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database
        self._reads = Together(self._read)
        self._writes = Together(self._write)

    async def read(self, run_id: str) -> Sequence[LegRecord]:
        """See the port."""
        return [] if "\0" in run_id else await self._reads.ask(run_id)

    async def write(self, record: LegRecord) -> bool:
        """See the port."""
        return await self._writes.ask(record)

    async def _read(self, run_ids: Sequence[str]) -> Sequence[Sequence[LegRecord]]:
        legs: defaultdict[str, list[LegRecord]] = defaultdict(list)
        for row in await self._database.fetch(_READ, run_ids):
            legs[row[0]].append(LegRecord(*row))
        return [legs[run_id] for run_id in run_ids]

    async def _write(self, records: Sequence[LegRecord]) -> Sequence[bool]:
        """In one statement each leg may come once: the first is written, and the others are no news."""
        first: dict[tuple[str, str], int] = {}
        for number, record in enumerate(records):
            first.setdefault((record.run_id, record.leg), number)
        rows = await self._database.fetch(_WRITE, *zip(*(leg_values(records[n]) for n in first.values()), strict=True))
        news = {(row[0], row[1]) for row in rows}
        written = {number for leg, number in first.items() if leg in news}
        return [number in written for number in range(len(records))]
