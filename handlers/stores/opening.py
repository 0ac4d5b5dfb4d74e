"""The stores, on the database that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from handlers.stores.orders import Orders, SqliteOrders
from handlers.stores.processed import Processed, SqliteProcessed
from handlers.stores.readings import Readings, SqliteReadings
from handlers.stores.stock import SqliteStock, Stock
from handlers.stores.users import SqliteUsers, Users
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_outbox import SqliteOutbox
from streamproc.adapters.store import StoreOptions
from streamproc.ports import Outbox

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is kept in one database."""

    users: Users
    orders: Orders
    stock: Stock
    readings: Readings
    processed: Processed
    outbox: Outbox


@asynccontextmanager
async def open_stores(options: StoreOptions) -> AsyncIterator[Stores]:
    """Opens the database. Raises ConfigError."""
    async with open_sqlite(options, MIGRATIONS) as database:
        yield _in_sqlite(database)


def _in_sqlite(database: SqliteDatabase) -> Stores:
    return Stores(
        users=SqliteUsers(database),
        orders=SqliteOrders(database),
        stock=SqliteStock(database),
        readings=SqliteReadings(database),
        processed=SqliteProcessed(database),
        outbox=SqliteOutbox(database),
    )
