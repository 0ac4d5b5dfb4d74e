"""The stores, on the database that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.stores.orders import Orders, PostgresOrders, SqliteOrders
from handlers.stores.payments import Ledger, PostgresLedger, SqliteLedger
from handlers.stores.processed import PostgresProcessed, Processed, SqliteProcessed
from handlers.stores.readings import PostgresReadings, Readings, SqliteReadings
from handlers.stores.stock import PostgresStock, SqliteStock, Stock
from handlers.stores.users import PostgresUsers, SqliteUsers, Users
from streamproc.adapters.postgres_firings import PostgresFirings
from streamproc.adapters.postgres_journal import PostgresJournal
from streamproc.adapters.postgres_outbox import PostgresOutbox
from streamproc.adapters.schema import dialect_of
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_firings import SqliteFirings
from streamproc.adapters.sqlite_journal import SqliteJournal
from streamproc.adapters.sqlite_outbox import SqliteOutbox
from streamproc.adapters.store import StoreOptions
from streamproc.ports import Firings, Journal, Outbox

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class Stores:
    """All that is kept in one database."""

    users: Users
    orders: Orders
    stock: Stock
    ledger: Ledger
    readings: Readings
    processed: Processed
    outbox: Outbox
    firings: Firings
    journal: Journal


@asynccontextmanager
async def open_stores(options: StoreOptions) -> AsyncIterator[Stores]:
    """Opens the database. Raises ConfigError, and StoreError where it does not answer."""
    if dialect_of(options.url) == "sqlite":
        async with open_sqlite(options, MIGRATIONS) as file:
            yield _in_sqlite(file)
    else:
        from streamproc.adapters.postgres import open_postgres  # its client is an extra

        async with open_postgres(options, MIGRATIONS) as database:
            yield _in_postgres(database)


def _in_sqlite(database: SqliteDatabase) -> Stores:
    return Stores(
        users=SqliteUsers(database),
        orders=SqliteOrders(database),
        stock=SqliteStock(database),
        ledger=SqliteLedger(database),
        readings=SqliteReadings(database),
        processed=SqliteProcessed(database),
        outbox=SqliteOutbox(database),
        firings=SqliteFirings(database),
        journal=SqliteJournal(database),
    )


def _in_postgres(database: "PostgresDatabase") -> Stores:
    return Stores(
        users=PostgresUsers(database),
        orders=PostgresOrders(database),
        stock=PostgresStock(database),
        ledger=PostgresLedger(database),
        readings=PostgresReadings(database),
        processed=PostgresProcessed(database),
        outbox=PostgresOutbox(database),
        firings=PostgresFirings(database),
        journal=PostgresJournal(database),
    )
