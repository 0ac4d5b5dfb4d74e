"""The stock of the shop."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from handlers.stores.orders import Order, check_order
from handlers.stores.processed import Refused, check_keys
from streamproc.adapters import postgres_journal
from streamproc.adapters.postgres_journal import has_ended, leg_of, leg_values
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_journal import write_leg
from streamproc.adapters.together import Together
from streamproc.errors import LegEnded, StoreError
from streamproc.rows import LegRecord

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase

PRICE = 1_000
"""Of one, in cents, where nobody says another."""


class Stock(Protocol):
    """How many there are of each sku, and what one costs. What writes a leg raises LegEnded."""

    async def prices(self, skus: Collection[str]) -> Mapping[str, int]:
        """The prices, in cents, of those that exist."""

    async def take(self, order: Order, leg: LegRecord, taken_at: datetime) -> None:
        """Takes what an accepted order asks for, all or nothing, in one transaction with the leg.

        Raises Refused with out_of_stock or unknown_sku.
        """

    async def give_back(self, order: Order, leg: LegRecord) -> None:
        """Gives back what was taken for an order, if it was, in one transaction with the leg."""

    async def add(self, quantities: Mapping[str, int], *, price: int = PRICE) -> None:
        """Adds skus in one transaction; those that exist stay as they are. Raises Refused with nul or too_long."""


def missing(sku: str, quantity: int, left: int | None) -> Refused:
    """Why a sku cannot be taken; `left` is None when there is no such sku."""
    if left is None:
        return Refused("unknown_sku", f"sku {sku!r} is not in stock")
    return Refused("out_of_stock", f"sku {sku!r}: {quantity} ordered, {left} left")


class SqliteStock:
    """Stock in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def prices(self, skus: Collection[str]) -> Mapping[str, int]:
        """See the port."""

        def work(connection: sqlite3.Connection) -> Mapping[str, int]:
            rows = (connection.execute("SELECT sku, price FROM stock WHERE sku = ?", (sku,)).fetchone() for sku in skus)
            return dict(filter(None, rows))

        return await self._database.run(work)

    async def take(self, order: Order, leg: LegRecord, taken_at: datetime) -> None:
        """See the port."""

        def work(connection: sqlite3.Connection) -> None:
            write_leg(connection, leg)
            for sku, quantity in order.quantities.items():
                _take(connection, sku, quantity)
            update = "UPDATE orders SET taken_at = ? WHERE order_id = ?"
            connection.execute(update, (taken_at.timestamp(), order.order_id))

        check_order(order)
        await self._database.run(work)

    async def give_back(self, order: Order, leg: LegRecord) -> None:
        """See the port."""

        def work(connection: sqlite3.Connection) -> None:
            write_leg(connection, leg)
            update = "UPDATE orders SET taken_at = NULL WHERE order_id = ? AND taken_at IS NOT NULL"
            if connection.execute(update, (order.order_id,)).rowcount:
                back = [(quantity, sku) for sku, quantity in order.quantities.items()]
                connection.executemany("UPDATE stock SET quantity = quantity + ? WHERE sku = ?", back)

        check_order(order)
        await self._database.run(work)

    async def add(self, quantities: Mapping[str, int], *, price: int = PRICE) -> None:
        """See the port."""
        check_keys(*quantities)
        rows = [(sku, quantity, price) for sku, quantity in quantities.items()]
        insert = "INSERT INTO stock (sku, quantity, price) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        await self._database.run(lambda connection: connection.executemany(insert, rows))


def _take(connection: sqlite3.Connection, sku: str, quantity: int) -> None:
    update = "UPDATE stock SET quantity = quantity - ?1 WHERE sku = ?2 AND quantity >= ?1"
    if connection.execute(update, (quantity, sku)).rowcount:
        return
    row = connection.execute("SELECT quantity FROM stock WHERE sku = ?", (sku,)).fetchone()
    raise missing(sku, quantity, None if row is None else row[0])


# Rows are locked in the order of the skus, so that orders at once wait for each other instead of being at a deadlock.
# A leg that is no news takes nothing.
_TAKE = f"""
WITH item AS (
    SELECT sku, quantity FROM unnest($3::text[], $4::bigint[]) AS item (sku, quantity)
), locked AS (
    SELECT sku, item.quantity AS wanted, stock.quantity AS available
    FROM stock JOIN item USING (sku) ORDER BY sku FOR UPDATE OF stock
), enough AS (
    SELECT FROM locked HAVING count(*) FILTER (WHERE available >= wanted) = cardinality($3::text[])
), {leg_of("enough", 5)}, taken AS (
    UPDATE stock SET quantity = stock.quantity - wanted FROM locked, leg WHERE stock.sku = locked.sku
), marked AS (
    UPDATE orders SET taken_at = $2 FROM leg WHERE order_id = $1
)
SELECT EXISTS (SELECT FROM enough), EXISTS (SELECT FROM leg)
"""  # noqa: S608
_GIVE_BACK = """
WITH back AS (
    UPDATE orders SET taken_at = NULL WHERE order_id = $1 AND taken_at IS NOT NULL RETURNING order_id
), item AS (
    SELECT sku, quantity FROM back, unnest($2::text[], $3::bigint[]) AS item (sku, quantity)
), locked AS (
    SELECT sku, item.quantity AS wanted FROM stock JOIN item USING (sku) ORDER BY sku FOR UPDATE OF stock
)
UPDATE stock SET quantity = stock.quantity + wanted FROM locked WHERE stock.sku = locked.sku
"""
_LEFT = "SELECT sku, quantity FROM stock WHERE sku = ANY ($1::text[])"
_ADD = """
INSERT INTO stock (sku, quantity, price) SELECT *, $3::bigint FROM unnest($1::text[], $2::bigint[])
ON CONFLICT DO NOTHING
"""


class PostgresStock:
    """Stock in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database
        self._pricing = Together(self._prices)

    async def prices(self, skus: Collection[str]) -> Mapping[str, int]:
        """See the port."""
        return await self._pricing.ask([sku for sku in skus if "\0" not in sku])

    async def _prices(self, asked: Sequence[Collection[str]]) -> Sequence[Mapping[str, int]]:
        skus = list({sku for one in asked for sku in one})
        prices = dict(await self._database.fetch("SELECT sku, price FROM stock WHERE sku = ANY ($1::text[])", skus))
        return [{sku: prices[sku] for sku in one if sku in prices} for one in asked]

    async def take(self, order: Order, leg: LegRecord, taken_at: datetime) -> None:
        """See the port."""
        check_order(order)
        skus, quantities = list(order.quantities), list(order.quantities.values())
        row = (order.order_id, taken_at, skus, quantities)
        [(enough, written)] = await self._database.fetch(_TAKE, *row, *leg_values(leg))
        if not enough:
            raise await self._short(order, leg)
        if not written:
            raise LegEnded(leg.run_id, leg.leg)

    async def _short(self, order: Order, leg: LegRecord) -> Exception:
        if await has_ended(self._database, leg):
            return LegEnded(leg.run_id, leg.leg)
        rows = await self._database.fetch(_LEFT, list(order.quantities))
        left = {row["sku"]: row["quantity"] for row in rows}
        for sku, quantity in order.quantities.items():
            if left.get(sku, -1) < quantity:
                return missing(sku, quantity, left.get(sku))
        return StoreError("PostgreSQL: the stock changed at the same moment")

    async def give_back(self, order: Order, leg: LegRecord) -> None:
        """See the port."""
        check_order(order)
        row = (order.order_id, list(order.quantities), list(order.quantities.values()))

        async def work(connection: "PostgresConnection") -> None:
            await postgres_journal.write_leg(connection, leg)
            await connection.execute(_GIVE_BACK, *row)  # a statement of its own: it sees what a late take committed

        await self._database.run(work)

    async def add(self, quantities: Mapping[str, int], *, price: int = PRICE) -> None:
        """See the port."""
        check_keys(*quantities)
        await self._database.execute(_ADD, list(quantities), list(quantities.values()), price)
