"""The application, killed from inside where `CRASH_AT` says; its own schedules are replaced by one of the tests'."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from handlers.app import app as shop
from handlers.filekeys import RESIZED, UPLOADS
from handlers.services import Services, open_services
from streamproc import Context, Leg, LegContext, Reject, RetryLater, Schedule, TaskDue, Workflow
from streamproc.model import OutRecord
from streamproc.ports import Waiting
from streamproc.rows import Firing, LegRecord
from streamproc.settings import Settings
from tests.integration.crashes.points import IN_THE_PUT, Wrapped, reach

SCHEDULE = "count-stock"
PUT_BYTES = 100_000
WRITTEN = {
    ("payment", "done"): "payment recorded",
    ("confirmation", "done"): "confirmation recorded, not settled",
    ("payment", "undone"): "undone recorded, dead letter not sent",
}


def note(line: str) -> None:
    """Writes down what cannot be taken back, for those who count."""
    with Path(os.environ["EFFECTS"]).open("a") as log:
        print(line, file=log, flush=True)


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
    """Writes down each mail that left, by its Message-ID."""

    def __init__(self, mailer: Any) -> None:
        self._mailer = mailer

    async def send(self, message: EmailMessage) -> None:
        reach("both legs done, before confirmation")
        await self._mailer.send(message)
        note(message["Message-ID"])
        reach("confirmation sent, not recorded")


class Ends:
    """Which of the legs that are called at once are known to have ended, whichever is the last."""

    def __init__(self) -> None:
        self._ended: set[str] = set()

    def add(self, leg: str) -> None:
        self._ended.add(leg)
        if self._ended >= {"payment", "inventory"}:
            reach("rejection recorded, nothing undone")


class CrashingJournal:
    """The journal, with points after it was written."""

    def __init__(self, journal: Any, ends: Ends) -> None:
        self._journal = journal
        self._ends = ends
        self.read = journal.read

    async def write(self, record: LegRecord) -> bool:
        is_news = bool(await self._journal.write(record))
        reach(WRITTEN.get((record.leg, record.state), ""))
        self._ends.add(record.leg)
        return is_news


class CrashingStock:
    """The stock, with points around what is taken and given back."""

    def __init__(self, stock: Any, ends: Ends) -> None:
        self._stock = Wrapped(
            stock,
            take=("before stock is taken", "stock taken, with its leg"),
            give_back=("before stock is given back", "given back, with its leg, dead letter not sent"),
        )
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    async def take(self, *arguments: Any) -> None:
        await self._stock.take(*arguments)
        self._ends.add("inventory")


class CrashingObjects:
    """The objects, with points around each put, and one in it: there the kernel ends the process as it writes on."""

    def __init__(self, objects: Any) -> None:
        self._objects = Wrapped(objects, put=self._around)
        self.get = objects.get

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        if os.environ["CRASH_AT"] == IN_THE_PUT and key.startswith(RESIZED):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (PUT_BYTES, PUT_BYTES))
        await self._objects.put(key, data, content_type=content_type)

    def _around(self, key: str, _data: bytes) -> tuple[str, str]:
        if key.startswith(UPLOADS):
            return "before the upload is put", "put, event not emitted"
        return "resized, before the result is put", "result put, not settled"


def meet(folder: Path) -> None:
    """Waits for another service that is about to do the same."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.001)


class CrashingFirings:
    """The firings, with points; where `RACE` names a folder, two services claim each time at the same moment."""

    def __init__(self, firings: Any) -> None:
        self._firings = Wrapped(firings, claim=self._claim, move=self._move)
        self.last = firings.last
        self.running = firings.running
        self.move = self._firings.move

    async def claim(self, firing: Firing, event: OutRecord | None) -> Any:
        if "RACE" in os.environ:
            await asyncio.to_thread(meet, Path(os.environ["RACE"], firing.fire_at.isoformat()))
        return await self._firings.claim(firing, event)

    def _claim(self, _firing: Firing, event: OutRecord | None) -> tuple[str, str]:
        return ("before the claim", "claimed, row and event, not published") if event else ("", "")

    def _move(self, firing: Firing) -> tuple[str, str]:
        if firing.state == "running":
            return "", "running recorded, function not called"
        return "function done, firing not recorded", "firing recorded, record not settled"


@asynccontextmanager
async def open_crashing(settings: Settings) -> AsyncIterator[Services]:
    ends = Ends()
    async with open_services(settings) as services:
        yield replace(
            services,
            users=Wrapped(services.users, create=("before the row", "row and event written, not answered")),
            processed=Wrapped(
                services.processed,
                claim=("before the mail is claimed", "claimed, not mailed"),
                record=("mailed, not recorded", "recorded, not settled"),
            ),
            orders=Wrapped(services.orders, accept=("before validate's effect", "accepted and recorded")),
            payments=Wrapped(
                services.payments,
                charge=("before the charge", "charged, not recorded"),
                refund=("before the refund", "refunded, not recorded"),
            ),
            stock=CrashingStock(services.stock, ends),
            journal=CrashingJournal(services.journal, ends),
            outbox=CrashingOutbox(services.outbox),
            firings=CrashingFirings(services.firings),
            objects=CrashingObjects(services.objects),
            compute=Wrapped(services.compute, run=("event on the stream, before the resize", "")),
            mailer=CountingMailer(services.mailer),
        )


async def write_line(task: TaskDue, _leg: LegContext[Services]) -> None:
    """The one effect of a firing."""
    note(f"line {task.fire_at.isoformat()}")
    reach("line written, its leg not recorded")


COUNT = Workflow(SCHEDULE, Leg("line", write_line))


async def count_stock(task: TaskDue, ctx: Context[Services]) -> Reject | RetryLater | None:
    """May be called more than once for a time; its leg is not, once it is recorded."""
    note(f"call {task.fire_at.isoformat()}")
    return await COUNT.run(task, ctx, subject=task.fire_at.isoformat(), journal=ctx.services.journal)


app = replace(
    shop,
    functions=[
        *(function for function in shop.functions if not isinstance(function, Schedule)),
        Schedule(SCHEDULE, os.environ.get("CRON", "0 0 1 1 *"), count_stock, catch_up="all", overlap="queue"),
    ],
    services=open_crashing,
)
