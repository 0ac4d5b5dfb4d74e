"""The orders, with their items."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from handlers.stores.processed import Delivery, Refused, check_keys, is_first, other_content
from streamproc.adapters.postgres_journal import leg_of, leg_values
from streamproc.adapters.postgres_outbox import event_of, event_values
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_journal import write_leg
from streamproc.adapters.sqlite_outbox import add_to_outbox
from streamproc.errors import LegEnded, StoreError
from streamproc.model import OutRecord
from streamproc.rows import LegRecord

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase


@dataclass(frozen=True, slots=True)
class Order:
    """An order; `quantities` says how many of each sku."""

    order_id: str
    user_id: str
    quantities: Mapping[str, int]
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class StoredOrder(Order):
    """An order as it is kept; `taken_at` is None while its stock is not taken."""

    taken_at: datetime | None


class Orders(Protocol):
    """Orders by their id."""

    async def place(self, order: Order, event: OutRecord) -> StoredOrder:
        """Stores an order and the event that tells of it, in one transaction, and returns what is stored of this id.

        An id that exists is left as it is, without an event. Raises Refused with nul or too_long.
        """

    async def accept(self, order: Order, delivery: Delivery, leg: LegRecord) -> None:
        """Stores an order that an event tells of, unless it was placed before, and the leg that accepts it.

        Raises Refused with conflict, for another event of the same id and for an order that was placed with another
        user or other items, and with nul or too_long; LegEnded.
        """

    async def find(self, order_id: str) -> StoredOrder | None:
        """The order, None when there is none."""

    async def count(self, since: datetime, until: datetime) -> int:
        """How many orders were placed from a time on and before another."""


def check_order(order: Order) -> None:
    """Raises Refused for what cannot be stored."""
    check_keys(order.order_id, order.user_id, *order.quantities)


def _other_order() -> Refused:
    return Refused("conflict", "this order was placed with another user or other items")


class SqliteOrders:
    """Orders in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def place(self, order: Order, event: OutRecord) -> StoredOrder:
        """See the port."""
        check_order(order)

        def work(connection: sqlite3.Connection) -> StoredOrder:
            stored = _insert(connection, order)
            if stored is not None:
                return stored
            add_to_outbox(connection, [event])
            return StoredOrder(order.order_id, order.user_id, order.quantities, order.placed_at, None)

        return await self._database.run(work)

    async def accept(self, order: Order, delivery: Delivery, leg: LegRecord) -> None:
        """See the port."""
        check_order(order)
        check_keys(delivery.scope, delivery.event_id)

        def work(connection: sqlite3.Connection) -> None:
            is_first(connection, delivery)
            stored = _insert(connection, order)
            if stored is not None and (stored.user_id, stored.quantities) != (order.user_id, dict(order.quantities)):
                raise _other_order()
            write_leg(connection, leg)

        await self._database.run(work)

    async def find(self, order_id: str) -> StoredOrder | None:
        """See the port."""
        return await self._database.run(lambda connection: _find(connection, order_id))

    async def count(self, since: datetime, until: datetime) -> int:
        """See the port."""
        select = "SELECT count(*) FROM orders WHERE placed_at >= ? AND placed_at < ?"
        times = since.timestamp(), until.timestamp()
        return int((await self._database.run(lambda connection: connection.execute(select, times).fetchone()))[0])


def _insert(connection: sqlite3.Connection, order: Order) -> StoredOrder | None:
    insert = "INSERT INTO orders (order_id, user_id, placed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    if not connection.execute(insert, (order.order_id, order.user_id, order.placed_at.timestamp())).rowcount:
        return _find(connection, order.order_id)
    items = [(order.order_id, sku, quantity) for sku, quantity in order.quantities.items()]
    connection.executemany("INSERT INTO order_items (order_id, sku, quantity) VALUES (?, ?, ?)", items)
    return None


def _find(connection: sqlite3.Connection, order_id: str) -> StoredOrder | None:
    select = "SELECT user_id, placed_at, taken_at FROM orders WHERE order_id = ?"
    row = connection.execute(select, (order_id,)).fetchone()
    if row is None:
        return None
    items = connection.execute("SELECT sku, quantity FROM order_items WHERE order_id = ?", (order_id,))
    user_id, placed_at, taken_at = row
    taken = None if taken_at is None else datetime.fromtimestamp(taken_at, UTC)
    return StoredOrder(order_id, user_id, dict(items), datetime.fromtimestamp(placed_at, UTC), taken)


_PLACE = f"""
WITH made AS (
    INSERT INTO orders (order_id, user_id, placed_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING order_id
), items AS (
    INSERT INTO order_items (order_id, sku, quantity)
    SELECT order_id, sku, quantity FROM made, unnest($4::text[], $5::bigint[]) AS item (sku, quantity)
), {event_of("made", 6)}
SELECT order_id FROM made
"""  # noqa: S608
# All in one; what a part writes depends on the parts before it, so that an order that is refused leaves nothing.
_ACCEPT = f"""
WITH item AS (
    SELECT sku, quantity FROM unnest($7::text[], $8::bigint[]) AS item (sku, quantity)
), placed AS (
    SELECT user_id = $5 AND NOT EXISTS (
        SELECT FROM (SELECT sku, quantity FROM order_items WHERE order_id = $4) AS placed FULL JOIN item USING (sku)
        WHERE placed.quantity IS DISTINCT FROM item.quantity
    ) AS same
    FROM orders WHERE order_id = $4
), noted AS (
    INSERT INTO processed (scope, event_id, fingerprint)
    SELECT $1::text, $2::text, $3::bytea WHERE coalesce((SELECT same FROM placed), true)
    ON CONFLICT (scope, event_id) DO UPDATE SET deliveries = processed.deliveries + 1
    WHERE processed.fingerprint = excluded.fingerprint
    RETURNING deliveries
), made AS (
    INSERT INTO orders (order_id, user_id, placed_at) SELECT $4::text, $5::text, $6::timestamptz FROM noted
    ON CONFLICT DO NOTHING RETURNING order_id
), made_items AS (
    INSERT INTO order_items (order_id, sku, quantity) SELECT order_id, sku, quantity FROM made, item
), accepted AS (
    SELECT FROM made UNION ALL SELECT FROM placed, noted WHERE same
), {leg_of("accepted", 9)}
SELECT coalesce((SELECT same FROM placed), true), EXISTS (SELECT FROM noted), EXISTS (SELECT FROM accepted),
    EXISTS (SELECT FROM leg)
"""  # noqa: S608
_FIND = """
SELECT user_id, placed_at, taken_at, sku, quantity FROM orders LEFT JOIN order_items USING (order_id)
WHERE order_id = $1
"""


class PostgresOrders:
    """Orders in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def place(self, order: Order, event: OutRecord) -> StoredOrder:
        """See the port."""
        check_order(order)
        row = (order.order_id, order.user_id, order.placed_at, list(order.quantities), list(order.quantities.values()))
        made = await self._database.fetch(_PLACE, *row, *event_values(event))
        stored = None if made else await self.find(order.order_id)
        return stored or StoredOrder(order.order_id, order.user_id, order.quantities, order.placed_at, None)

    async def accept(self, order: Order, delivery: Delivery, leg: LegRecord) -> None:
        """See the port."""
        check_order(order)
        check_keys(delivery.scope, delivery.event_id)
        row = (order.order_id, order.user_id, order.placed_at, list(order.quantities), list(order.quantities.values()))
        [(same, noted, accepted, written)] = await self._database.fetch(_ACCEPT, *delivery, *row, *leg_values(leg))
        if not same:
            raise _other_order()
        if not noted:
            raise other_content()
        if not accepted:
            raise StoreError("PostgreSQL: the order was placed at the same moment")
        if not written:
            raise LegEnded(leg.run_id, leg.leg)

    async def find(self, order_id: str) -> StoredOrder | None:
        """See the port."""
        rows = [] if "\0" in order_id else await self._database.fetch(_FIND, order_id)
        if not rows:
            return None
        user_id, placed_at, taken_at, *_ = rows[0]
        quantities = {row["sku"]: row["quantity"] for row in rows if row["sku"] is not None}
        return StoredOrder(order_id, user_id, quantities, placed_at, taken_at)

    async def count(self, since: datetime, until: datetime) -> int:
        """See the port."""
        select = "SELECT count(*) FROM orders WHERE placed_at >= $1 AND placed_at < $2"
        return int((await self._database.fetch(select, since, until))[0][0])
