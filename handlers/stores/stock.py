"""The stock of the shop, and the orders it went to."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from handlers.stores import Claim
from handlers.stores.processed import claim
from streamproc import Event
from streamproc.adapters.sqlite import SqliteDatabase


@dataclass(frozen=True, slots=True)
class Order:
    """An order to take stock for; `quantities` is sku -> pieces. `at` is in seconds since the Unix epoch."""

    order_id: str
    user_id: str
    event_id: str
    quantities: Mapping[str, int]
    at: float


class ShortStock(Exception):
    """Of `sku` there are only `there` pieces; -1 when it is not known at all."""

    def __init__(self, sku: str, there: int) -> None:
        super().__init__(f"{sku}: {there}")
        self.sku = sku
        self.there = there


class Stock(Protocol):
    """Pieces per sku."""

    async def put(self, quantities: Mapping[str, int]) -> None:
        """Sets the stock of skus."""

    async def take(self, order: Order, scope: str, *, event: Event) -> Claim:
        """Takes the stock of a whole order, once per event id. Raises ShortStock, and takes nothing then."""


class SqliteStock:
    """Stock in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def put(self, quantities: Mapping[str, int]) -> None:
        """See the port."""
        rows = list(quantities.items())
        await self._database.run(lambda connection: connection.executemany("REPLACE INTO stock VALUES (?, ?)", rows))

    async def take(self, order: Order, scope: str, *, event: Event) -> Claim:
        """See the port."""

        def call(connection: sqlite3.Connection) -> Claim:
            seen = claim(connection, scope, order.event_id, event=event)
            if seen == "new":
                for sku, quantity in order.quantities.items():
                    _take(connection, sku, quantity)
                connection.execute(
                    "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
                    (order.order_id, order.user_id, order.event_id, sum(order.quantities.values()), order.at),
                )
            return seen

        return await self._database.run(call)


def _take(connection: sqlite3.Connection, sku: str, quantity: int) -> None:
    taken = connection.execute(
        "UPDATE stock SET quantity = quantity - ? WHERE sku = ? AND quantity >= ?", (quantity, sku, quantity)
    )
    if taken.rowcount == 0:
        row = connection.execute("SELECT quantity FROM stock WHERE sku = ?", (sku,)).fetchone()
        raise ShortStock(sku, -1 if row is None else row[0])
