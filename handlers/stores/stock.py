"""The stock of the shop."""

import sqlite3
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from handlers.stores.orders import Order, check_order, check_takeable, fetch_order, insert_order, mark_taken
from handlers.stores.processed import Delivery, Refused, check_keys, is_first, other_content
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.errors import StoreError

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase


class Stock(Protocol):
    """How many there are of each sku."""

    async def take(self, order: Order, delivery: Delivery, taken_at: datetime) -> None:
        """Takes what is ordered, all or nothing, once per event id, and stores the order where it is not yet.

        Raises Refused with out_of_stock, unknown_sku, or conflict: for another event of the same id, for an order
        that another event took, or that was placed with another user or other items.
        """

    async def add(self, quantities: Mapping[str, int]) -> None:
        """Adds skus in one transaction; those that exist stay as they are. Raises Refused with nul or too_long."""


class SqliteStock:
    """Stock in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def take(self, order: Order, delivery: Delivery, taken_at: datetime) -> None:
        """See the port."""
        check_order(order)
        check_keys(delivery.scope, delivery.event_id)

        def work(connection: sqlite3.Connection) -> None:
            if not is_first(connection, delivery):
                return
            stored = insert_order(connection, order)
            if stored is not None:
                check_takeable(stored, order)
            for sku, quantity in order.quantities.items():
                _take(connection, sku, quantity)
            mark_taken(connection, order.order_id, delivery.event_id, taken_at)

        await self._database.run(work)

    async def add(self, quantities: Mapping[str, int]) -> None:
        """See the port."""
        check_keys(*quantities)
        insert = "INSERT INTO stock (sku, quantity) VALUES (?, ?) ON CONFLICT DO NOTHING"
        await self._database.run(lambda connection: connection.executemany(insert, quantities.items()))


def _take(connection: sqlite3.Connection, sku: str, quantity: int) -> None:
    update = "UPDATE stock SET quantity = quantity - ?1 WHERE sku = ?2 AND quantity >= ?1"
    if connection.execute(update, (quantity, sku)).rowcount:
        return
    row = connection.execute("SELECT quantity FROM stock WHERE sku = ?", (sku,)).fetchone()
    raise _missing(sku, quantity, None if row is None else row[0])


def _missing(sku: str, quantity: int, left: int | None) -> Refused:
    """Why a sku cannot be taken; `left` is None when there is no such sku."""
    if left is None:
        return Refused("unknown_sku", f"sku {sku!r} is not in stock")
    return Refused("out_of_stock", f"sku {sku!r}: {quantity} ordered, {left} left")


# All in one: the delivery, the order, new or placed before, and its stock, in the order of the skus, so that orders at
# once wait for each other instead of being at a deadlock. Whoever reads the answer commits it, or takes it back.
_TAKE = """
WITH noted AS (
    INSERT INTO processed (scope, event_id, fingerprint) VALUES ($1, $2, $3)
    ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = processed.deliveries + 1
    WHERE processed.fingerprint = excluded.fingerprint
    RETURNING deliveries
), item AS (
    SELECT sku, quantity FROM noted, unnest($7::text[], $8::bigint[]) AS item (sku, quantity) WHERE deliveries = 1
), made AS (
    INSERT INTO orders (order_id, user_id, placed_at, event_id, taken_at)
    SELECT $4::text, $5::text, $6::timestamptz, $2, $9::timestamptz FROM noted WHERE deliveries = 1
    ON CONFLICT DO NOTHING RETURNING order_id
), made_items AS (
    INSERT INTO order_items (order_id, sku, quantity) SELECT order_id, sku, quantity FROM made, item
), marked AS (
    UPDATE orders SET event_id = $2, taken_at = $9 FROM noted
    WHERE deliveries = 1 AND order_id = $4 AND user_id = $5 AND taken_at IS NULL AND NOT EXISTS (
        SELECT FROM (SELECT sku, quantity FROM order_items WHERE order_id = $4) AS placed FULL JOIN item USING (sku)
        WHERE placed.quantity IS DISTINCT FROM item.quantity
    )
    RETURNING order_id
), locked AS (
    SELECT sku, item.quantity FROM stock JOIN item USING (sku) ORDER BY sku FOR UPDATE OF stock
), taken AS (
    UPDATE stock SET quantity = stock.quantity - locked.quantity FROM locked
    WHERE stock.sku = locked.sku AND stock.quantity >= locked.quantity
    RETURNING stock.sku
)
SELECT deliveries, EXISTS (SELECT FROM made UNION ALL SELECT FROM marked), ARRAY (SELECT sku FROM taken) FROM noted
"""
_ADD = "INSERT INTO stock (sku, quantity) SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING"


class PostgresStock:
    """Stock in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def take(self, order: Order, delivery: Delivery, taken_at: datetime) -> None:
        """See the port."""
        check_order(order)
        check_keys(delivery.scope, delivery.event_id)
        skus, quantities = list(order.quantities), list(order.quantities.values())
        values = (*delivery, order.order_id, order.user_id, order.placed_at, skus, quantities, taken_at)

        async def work(connection: "PostgresConnection") -> None:
            rows = await connection.fetch(_TAKE, *values)
            if not rows:
                raise other_content()
            deliveries, is_ours, taken = rows[0]
            if deliveries == 1 and not is_ours:
                raise await _taken_before(connection, order)
            if deliveries == 1 and len(taken) < len(skus):
                raise await _short(connection, order, taken)

        await self._database.run(work)

    async def add(self, quantities: Mapping[str, int]) -> None:
        """See the port."""
        check_keys(*quantities)
        await self._database.execute(_ADD, list(quantities), list(quantities.values()))


async def _taken_before(connection: "PostgresConnection", order: Order) -> Exception:
    stored = await fetch_order(connection, order.order_id)
    if stored is not None:
        check_takeable(stored, order)
    return StoreError("PostgreSQL: the order was placed at the same moment")


async def _short(connection: "PostgresConnection", order: Order, taken: Collection[str]) -> Refused:
    sku = next(sku for sku in order.quantities if sku not in taken)
    rows = await connection.fetch("SELECT quantity FROM stock WHERE sku = $1", sku)
    return _missing(sku, order.quantities[sku], rows[0]["quantity"] if rows else None)
