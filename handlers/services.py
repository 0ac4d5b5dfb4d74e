"""What the functions work with, opened once per process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from handlers.housekeeping import Folders
from handlers.letter import OPERATORS
from handlers.payments import LocalPayments, Payments
from handlers.stores.opening import Stores, open_stores
from streamproc.adapters.kafka_tools import count_between
from streamproc.adapters.mailers import open_mailer
from streamproc.adapters.objects import open_objects
from streamproc.compute import Compute, open_compute
from streamproc.ports import Mailer, ObjectStore
from streamproc.settings import Settings


@dataclass(frozen=True)
class Services(Stores):
    """`ctx.services` of every function: the stores, and the world outside of the database.

    `dead_letters` counts those of all input topics from a time on and before another; `operators` are who is told of
    alerts, and gets reports.
    """

    mailer: Mailer
    payments: Payments
    objects: ObjectStore
    compute: Compute
    dead_letters: Callable[[datetime, datetime], Awaitable[int]]
    folders: Folders
    operators: str


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens what the settings name; `app.options` are `temporary_folder`, `log_folder` and `operators`.

    Raises ConfigError.
    """
    options = settings.app.options
    letters = [settings.stream.dead_letter_topic.format(topic=topic) for topic in settings.stream.topics]

    async def dead_letters(since: datetime, until: datetime) -> int:
        return await count_between(settings.kafka, letters, since=since, until=until)

    async with (
        open_mailer(settings.mail) as mailer,
        open_stores(settings.store) as stores,
        open_objects(settings.objects) as objects,
        open_compute(settings.compute) as compute,
    ):
        yield Services(
            **vars(stores),
            mailer=mailer,
            payments=LocalPayments(stores.ledger),
            objects=objects,
            compute=compute,
            dead_letters=dead_letters,
            folders=Folders(
                temporary=Path(options.get("temporary_folder", "data/tmp")),
                logs=Path(options.get("log_folder", "data/logs")),
            ),
            operators=options.get("operators", OPERATORS),
        )
