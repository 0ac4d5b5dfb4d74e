"""What the functions work with, opened once per process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from handlers.stores.processed import Processed, SqliteProcessed
from handlers.stores.readings import Readings, SqliteReadings
from handlers.stores.stock import SqliteStock, Stock
from handlers.stores.users import SqliteUsers, Users
from streamproc.adapters.maildir import Maildir
from streamproc.adapters.sqlite import open_sqlite
from streamproc.ports import Mailer
from streamproc.settings import Settings

MIGRATIONS = Path(__file__).parent / "stores" / "migrations"


@dataclass(frozen=True, slots=True)
class Services:
    """`ctx.services` of every function."""

    users: Users
    stock: Stock
    readings: Readings
    processed: Processed
    mailer: Mailer


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens the store and the mail folder that the settings name. Raises ConfigError."""
    mailer = Maildir(settings.mail.directory)
    async with open_sqlite(settings.store.url, MIGRATIONS / "sqlite") as database:
        yield Services(
            users=SqliteUsers(database),
            stock=SqliteStock(database),
            readings=SqliteReadings(database),
            processed=SqliteProcessed(database),
            mailer=mailer,
        )
