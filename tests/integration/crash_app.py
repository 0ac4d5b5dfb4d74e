"""The application, killed from inside where `CRASH_AT` says; each point stands between a request and its effects."""

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from handlers.app import app as shop
from handlers.services import Services, open_services
from streamproc.model import OutRecord
from streamproc.ports import Waiting
from streamproc.settings import Settings

POINTS = (
    "before the row",
    "row and event written, not answered",
    "taken from the outbox, not published",
    "published, not removed from the outbox",
    "removed from the outbox",
    "before the mail is claimed",
    "claimed, not mailed",
    "mailed, not recorded",
    "recorded, not settled",
    "before stock is taken",
    "stock taken, not settled",
)


def reach(point: str) -> None:
    """Dies here if this is the point."""
    assert point in POINTS
    if os.environ.get("CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


class Wrapped:
    """A store with points before and after one of its calls."""

    def __init__(self, store: Any, call: str, before: str, after: str) -> None:
        self._store = store
        self._call = call
        self._points = before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._call:
            return found

        async def with_points(*arguments: Any, **named: Any) -> Any:
            reach(self._points[0])
            result = await found(*arguments, **named)
            reach(self._points[1])
            return result

        return with_points


class CrashingWaiting:
    """What waits in the outbox, with points around the publication that lies between its two steps."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    async def take(self, limit: int) -> Sequence[tuple[int, OutRecord]]:
        taken = await self._waiting.take(limit)
        if taken:
            reach("taken from the outbox, not published")
        return taken

    async def remove(self, numbers: Sequence[int]) -> None:
        reach("published, not removed from the outbox")
        await self._waiting.remove(numbers)
        reach("removed from the outbox")


class CrashingOutbox:
    """The outbox, with points in what its relay sees."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox
        self.count = outbox.count

    def relay(self) -> AbstractAsyncContextManager[Waiting | None]:
        return self._relay()

    @asynccontextmanager
    async def _relay(self) -> AsyncIterator[Waiting | None]:
        async with self._outbox.relay() as waiting:
            yield None if waiting is None else CrashingWaiting(waiting)


class CountingMailer:
    """Writes down each mail that left, by its Message-ID, for those who count copies."""

    def __init__(self, mailer: Any) -> None:
        self._mailer = mailer
        self._log = Path(os.environ["EFFECTS"])

    async def send(self, message: EmailMessage) -> None:
        await self._mailer.send(message)
        with self._log.open("a") as log:
            print(message["Message-ID"], file=log, flush=True)


@asynccontextmanager
async def open_crashing(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as services:
        users = Wrapped(services.users, "create", "before the row", "row and event written, not answered")
        stock = Wrapped(services.stock, "take", "before stock is taken", "stock taken, not settled")
        claiming = Wrapped(services.processed, "claim", "before the mail is claimed", "claimed, not mailed")
        yield replace(
            services,
            users=users,
            stock=stock,
            processed=Wrapped(claiming, "record", "mailed, not recorded", "recorded, not settled"),
            outbox=CrashingOutbox(services.outbox),
            mailer=CountingMailer(services.mailer),
        )


app = replace(shop, services=open_crashing)
