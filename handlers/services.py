"""What the functions need, opened once for the whole process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from handlers.stores.readings import Readings, SqliteReadings
from handlers.stores.stock import SqliteStock, Stock
from handlers.stores.users import SqliteUsers, Users
from streamproc.adapters.maildir import Maildir
from streamproc.adapters.sqlite import open_sqlite
from streamproc.ports import Mailer
from streamproc.settings import Settings

MIGRATIONS = Path(__file__).parent / "stores" / "migrations" / "sqlite"


@dataclass(frozen=True, slots=True)
class Services:
    """`ctx.services` of every function."""

    users: Users
    stock: Stock
    readings: Readings
    mailer: Mailer


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens the stores and the mailer that the settings name. Raises ConfigError."""
    async with open_sqlite(settings.store.url, MIGRATIONS) as database:
        yield Services(
            users=SqliteUsers(database),
            stock=SqliteStock(database),
            readings=SqliteReadings(database),
            mailer=Maildir(Path(settings.mail.directory)),
        )
