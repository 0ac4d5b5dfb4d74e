"""What the functions work with, opened once per process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from handlers.stores.opening import open_stores
from handlers.stores.orders import Orders
from handlers.stores.processed import Processed
from handlers.stores.readings import Readings
from handlers.stores.stock import Stock
from handlers.stores.users import Users
from streamproc.adapters.mailers import open_mailer
from streamproc.ports import Mailer, Outbox
from streamproc.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """`ctx.services` of every function."""

    users: Users
    orders: Orders
    stock: Stock
    readings: Readings
    processed: Processed
    outbox: Outbox
    mailer: Mailer


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens the store and the mailer that the settings name. Raises ConfigError."""
    async with open_mailer(settings.mail) as mailer, open_stores(settings.store) as stores:
        yield Services(
            users=stores.users,
            orders=stores.orders,
            stock=stores.stock,
            readings=stores.readings,
            processed=stores.processed,
            outbox=stores.outbox,
            mailer=mailer,
        )
