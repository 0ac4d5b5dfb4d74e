"""What the functions work with, opened once per process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from handlers.stores.opening import Stores, open_stores
from streamproc.adapters.mailers import open_mailer
from streamproc.ports import Mailer
from streamproc.settings import Settings


@dataclass(frozen=True)
class Services(Stores):
    """`ctx.services` of every function: the stores, and what sends mail."""

    mailer: Mailer


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens the store and the mailer that the settings name. Raises ConfigError."""
    async with open_mailer(settings.mail) as mailer, open_stores(settings.store) as stores:
        yield Services(**vars(stores), mailer=mailer)
