"""Which events took effect: what makes an effect happen once per event id.

The row is written in the effect's own transaction, so that both happen or neither. `deliveries` counts how often the
event came with the same content; the first effect of an id is kept.
"""

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streamproc import Context, Event, Reject
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.fingerprint import fingerprint

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase

KEY_BYTES_MAX = 1_024
"""The longest event id has as many. PostgreSQL's indexes take 2,704 bytes in all, and two texts each at most."""


class Refused(Exception):
    """A store did nothing, and never will for this event: `outcome` says why. Return it from the function."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.outcome = Reject(reason, detail)


def check_text(*texts: str) -> None:
    """Raises Refused for text that not every database keeps: with the character NUL."""
    if "\0" in "".join(texts):
        raise Refused("nul", "text must not hold the character NUL")


def check_keys(*keys: str) -> None:
    """Raises Refused for keys that not every database keeps: with the character NUL, or too long for an index."""
    check_text(*keys)
    if max(map(len, keys), default=0) > KEY_BYTES_MAX // 4 and any(len(key.encode()) > KEY_BYTES_MAX for key in keys):
        raise Refused("too_long", f"what a row is found by must not be longer than {KEY_BYTES_MAX} bytes")


class Delivery(NamedTuple):
    """An event as it came to a function: `scope` is the function and the topic, `fingerprint` its content."""

    scope: str
    event_id: str
    fingerprint: bytes


def delivery(event: Event, ctx: Context[Any], *, function: str) -> Delivery:
    """The delivery of an event to a function."""
    return Delivery(f"{function}/{ctx.topic}", ctx.event_id, fingerprint(event))


class Processed(Protocol):
    """The deliveries whose effect lies outside of the database."""

    async def claim(self, delivery: Delivery) -> bool:
        """True when the effect is still to come; a repeat of one that was recorded is counted.

        The id is this event's from here on. Raises Refused for another event of the same id.
        """

    async def record(self, delivery: Delivery) -> None:
        """Remembers that it took effect. Raises Refused for another event of the same id."""


_CLAIM = """
INSERT INTO processed (scope, event_id, fingerprint, deliveries) VALUES (?, ?, ?, 0)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = deliveries + (deliveries > 0)
WHERE fingerprint = excluded.fingerprint
RETURNING deliveries
"""
_RECORD = """
INSERT INTO processed (scope, event_id, fingerprint) VALUES (?, ?, ?)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = deliveries + 1 WHERE fingerprint = excluded.fingerprint
RETURNING deliveries
"""


def is_first(connection: sqlite3.Connection, delivery: Delivery) -> bool:
    """Records a delivery in the transaction of its effect; False when that is done already. Raises Refused."""
    return _note(connection, _RECORD, delivery) == 1


def _note(connection: sqlite3.Connection, statement: str, delivery: Delivery) -> int:
    row = connection.execute(statement, delivery).fetchone()
    if row is None:
        raise other_content()
    return int(row[0])


def other_content() -> Refused:
    """Why an event id that is another event's is refused."""
    return Refused("conflict", "this event id came before with other content")


class SqliteProcessed:
    """Deliveries in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def claim(self, delivery: Delivery) -> bool:
        """See the port."""
        check_keys(delivery.scope, delivery.event_id)
        return await self._database.run(lambda connection: _note(connection, _CLAIM, delivery) == 0)

    async def record(self, delivery: Delivery) -> None:
        """See the port."""
        check_keys(delivery.scope, delivery.event_id)
        await self._database.run(lambda connection: is_first(connection, delivery))


_PG_CLAIM = """
INSERT INTO processed (scope, event_id, fingerprint, deliveries) VALUES ($1, $2, $3, 0)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = processed.deliveries + (processed.deliveries > 0)::integer
WHERE processed.fingerprint = excluded.fingerprint
RETURNING deliveries
"""
_PG_RECORD = """
INSERT INTO processed (scope, event_id, fingerprint) VALUES ($1, $2, $3)
ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = processed.deliveries + 1
WHERE processed.fingerprint = excluded.fingerprint
RETURNING deliveries
"""


class PostgresProcessed:
    """Deliveries in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def claim(self, delivery: Delivery) -> bool:
        """See the port."""
        return await self._note(_PG_CLAIM, delivery) == 0

    async def record(self, delivery: Delivery) -> None:
        """See the port."""
        await self._note(_PG_RECORD, delivery)

    async def _note(self, statement: str, delivery: Delivery) -> int:
        check_keys(delivery.scope, delivery.event_id)
        rows = await self._database.fetch(statement, *delivery)
        if not rows:
            raise other_content()
        return int(rows[0]["deliveries"])
