"""The ledger of the local payment provider: which charges it keeps. It stands for another company's system, so nothing
here shares a transaction with the rows of the shop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from handlers.stores.processed import check_keys
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.together import Together

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase


class Charge(NamedTuple):
    """What became of a charge: `state` is kept, refunded or void; `requests` counts how often it was asked for."""

    state: str
    requests: int


class Ledger(Protocol):
    """Charges by idempotency key."""

    async def charge(self, key: str, amount: int) -> Charge:
        """Charges once, whatever the number of requests; a key that was refunded before is not charged."""

    async def refund(self, key: str) -> None:
        """Gives back what was charged; a charge that comes later is void."""


_CHARGE = """
INSERT INTO payments (key, amount, state) VALUES (?, ?, 'kept')
ON CONFLICT (key) DO UPDATE SET requests = requests + 1
RETURNING state, requests
"""
_REFUND = """
INSERT INTO payments (key, amount, state, requests) VALUES (?, 0, 'void', 0)
ON CONFLICT (key) DO UPDATE SET state = 'refunded' WHERE state = 'kept'
"""


class SqliteLedger:
    """The ledger in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def charge(self, key: str, amount: int) -> Charge:
        """See the port."""
        check_keys(key)
        return Charge(*await self._database.run(lambda one: one.execute(_CHARGE, (key, amount)).fetchone()))

    async def refund(self, key: str) -> None:
        """See the port."""
        check_keys(key)
        await self._database.run(lambda one: one.execute(_REFUND, (key,)))


_PG_CHARGE = """
INSERT INTO payments (key, amount, state, requests)
SELECT key, min(amount), 'kept', count(*) FROM unnest($1::text[], $2::bigint[]) AS one (key, amount) GROUP BY key
ON CONFLICT (key) DO UPDATE SET requests = payments.requests + excluded.requests
RETURNING key, state, requests
"""
_PG_REFUND = """
INSERT INTO payments (key, amount, state, requests) VALUES ($1, 0, 'void', 0)
ON CONFLICT (key) DO UPDATE SET state = 'refunded' WHERE payments.state = 'kept'
"""


class PostgresLedger:
    """The ledger in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database
        self._charging = Together(self._charge)

    async def charge(self, key: str, amount: int) -> Charge:
        """See the port."""
        check_keys(key)
        return await self._charging.ask((key, amount))

    async def _charge(self, asked: Sequence[tuple[str, int]]) -> Sequence[Charge]:
        rows = await self._database.fetch(_PG_CHARGE, *zip(*asked, strict=True))
        charges = {key: Charge(state, requests) for key, state, requests in rows}
        return [charges[key] for key, _ in asked]

    async def refund(self, key: str) -> None:
        """See the port."""
        check_keys(key)
        await self._database.execute(_PG_REFUND, key)
