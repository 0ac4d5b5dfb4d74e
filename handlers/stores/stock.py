"""The stock of the shop, and the orders it went to."""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from handlers.stores.processed import Delivery, Refused, is_first
from streamproc.adapters.sqlite import SqliteDatabase


class Order(NamedTuple):
    """An order; `quantities` says how many of each sku. `processed_at` is in seconds since the Unix epoch."""

    order_id: str
    user_id: str
    quantities: Mapping[str, int]
    processed_at: float


class Stock(Protocol):
    """How many there are of each sku."""

    async def take(self, order: Order, delivery: Delivery) -> None:
        """Takes what is ordered, all or nothing, once per event id.

        Raises Refused with out_of_stock, unknown_sku, or conflict for another event of the same id.
        """

    async def add(self, quantities: Mapping[str, int]) -> None:
        """Adds skus in one transaction; those that exist stay as they are."""


class SqliteStock:
    """Stock in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def take(self, order: Order, delivery: Delivery) -> None:
        """See the port."""

        def work(connection: sqlite3.Connection) -> None:
            if is_first(connection, delivery):
                for sku, quantity in order.quantities.items():
                    _take(connection, sku, quantity)
                _insert(connection, order, delivery.event_id)

        await self._database.run(work)

    async def add(self, quantities: Mapping[str, int]) -> None:
        """See the port."""
        insert = "INSERT INTO stock (sku, quantity) VALUES (?, ?) ON CONFLICT (sku) DO NOTHING"
        await self._database.run(lambda connection: connection.executemany(insert, quantities.items()))


def _take(connection: sqlite3.Connection, sku: str, quantity: int) -> None:
    update = "UPDATE stock SET quantity = quantity - ?1 WHERE sku = ?2 AND quantity >= ?1"
    if connection.execute(update, (quantity, sku)).rowcount:
        return
    row = connection.execute("SELECT quantity FROM stock WHERE sku = ?", (sku,)).fetchone()
    if row is None:
        raise Refused("unknown_sku", f"sku {sku!r} is not in stock")
    raise Refused("out_of_stock", f"sku {sku!r}: {quantity} ordered, {row[0]} left")


def _insert(connection: sqlite3.Connection, order: Order, event_id: str) -> None:
    row = (order.order_id, order.user_id, event_id, order.processed_at)
    insert = "INSERT INTO orders (order_id, user_id, event_id, processed_at) VALUES (?, ?, ?, ?)"
    order_row = connection.execute(insert, row).lastrowid
    items = [(order_row, sku, quantity) for sku, quantity in order.quantities.items()]
    connection.executemany("INSERT INTO order_items (order_row, sku, quantity) VALUES (?, ?, ?)", items)
