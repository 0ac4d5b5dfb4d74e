"""The stock of the shop."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from handlers.stores.orders import Order, check_order, check_takeable, insert_order, mark_taken
from handlers.stores.processed import Delivery, Refused, check_keys, is_first
from streamproc.adapters.sqlite import SqliteDatabase


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
    raise missing(sku, quantity, None if row is None else row[0])


def missing(sku: str, quantity: int, left: int | None) -> Refused:
    """Why a sku cannot be taken; `left` is None when there is no such sku."""
    if left is None:
        return Refused("unknown_sku", f"sku {sku!r} is not in stock")
    return Refused("out_of_stock", f"sku {sku!r}: {quantity} ordered, {left} left")
