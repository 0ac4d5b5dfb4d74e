"""The orders, with their items."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from handlers.stores.processed import Refused, check_keys
from streamproc.adapters.postgres_outbox import event_of, event_values
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_outbox import add_to_outbox
from streamproc.model import OutRecord

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresConnection, PostgresDatabase


@dataclass(frozen=True, slots=True)
class Order:
    """An order; `quantities` says how many of each sku."""

    order_id: str
    user_id: str
    quantities: Mapping[str, int]
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class StoredOrder(Order):
    """An order as it is kept; `taken_at` is None until its stock is taken."""

    taken_at: datetime | None


class Orders(Protocol):
    """Orders by their id."""

    async def place(self, order: Order, event: OutRecord) -> StoredOrder:
        """Stores an order and the event that tells of it, in one transaction, and returns what is stored of this id.

        An id that exists is left as it is, without an event. Raises Refused with nul or too_long.
        """

    async def find(self, order_id: str) -> StoredOrder | None:
        """The order, None when there is none."""


def check_order(order: Order) -> None:
    """Raises Refused for what cannot be stored."""
    check_keys(order.order_id, order.user_id, *order.quantities)


def check_takeable(stored: StoredOrder, order: Order) -> None:
    """Raises Refused unless they are the same order, whose stock nobody has taken."""
    if stored.taken_at is not None:
        raise Refused("conflict", "another event took the stock of this order")
    if stored.user_id != order.user_id or dict(stored.quantities) != dict(order.quantities):
        raise Refused("conflict", "this order was placed with another user or other items")


class SqliteOrders:
    """Orders in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def place(self, order: Order, event: OutRecord) -> StoredOrder:
        """See the port."""
        check_order(order)

        def work(connection: sqlite3.Connection) -> StoredOrder:
            stored = insert_order(connection, order)
            if stored is not None:
                return stored
            add_to_outbox(connection, [event])
            return StoredOrder(order.order_id, order.user_id, order.quantities, order.placed_at, None)

        return await self._database.run(work)

    async def find(self, order_id: str) -> StoredOrder | None:
        """See the port."""
        return await self._database.run(lambda connection: _find(connection, order_id))


def insert_order(connection: sqlite3.Connection, order: Order) -> StoredOrder | None:
    """Inserts an order whose id is new; else returns what is stored."""
    insert = "INSERT INTO orders (order_id, user_id, placed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    if not connection.execute(insert, (order.order_id, order.user_id, order.placed_at.timestamp())).rowcount:
        return _find(connection, order.order_id)
    items = [(order.order_id, sku, quantity) for sku, quantity in order.quantities.items()]
    connection.executemany("INSERT INTO order_items (order_id, sku, quantity) VALUES (?, ?, ?)", items)
    return None


def mark_taken(connection: sqlite3.Connection, order_id: str, event_id: str, taken_at: datetime) -> None:
    """Notes that an event took the stock of an order."""
    update = "UPDATE orders SET event_id = ?, taken_at = ? WHERE order_id = ?"
    connection.execute(update, (event_id, taken_at.timestamp(), order_id))


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

    async def find(self, order_id: str) -> StoredOrder | None:
        """See the port."""
        return None if "\0" in order_id else await fetch_order(self._database, order_id)


async def fetch_order(source: "PostgresDatabase | PostgresConnection", order_id: str) -> StoredOrder | None:
    """The order, None when there is none."""
    rows = await source.fetch(_FIND, order_id)
    if not rows:
        return None
    user_id, placed_at, taken_at, *_ = rows[0]
    quantities = {row["sku"]: row["quantity"] for row in rows if row["sku"] is not None}
    return StoredOrder(order_id, user_id, quantities, placed_at, taken_at)
