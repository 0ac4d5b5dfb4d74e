"""Workflows of a test: legs that end as given, run through the real pipeline, with a journal that may be cut off."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from streamproc import App, Context, Event, Leg, LegContext, Parallel, Stream, Workflow, testing
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_journal import SqliteJournal
from streamproc.adapters.store import StoreOptions
from streamproc.errors import StoreError
from streamproc.rows import LegRecord
from streamproc.workflow import BEGUN


class Thing(Event, tag="thing"):
    thing_id: str
    size: int = 1


class Cut(SqliteJournal):
    """A journal whose database is gone for some calls: `writes` and `reads` say for which, counted from 1."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database)
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.calls = {"read": 0, "write": 0}

    async def read(self, run_id: str) -> Any:
        self._count("read", self.reads)
        return await super().read(run_id)

    async def write(self, record: LegRecord) -> bool:
        self._count("write", self.writes)
        return await super().write(record)

    def _count(self, kind: str, gone: set[int]) -> None:
        self.calls[kind] += 1
        if self.calls[kind] in gone:
            raise StoreError("gone")


@dataclass
class Services:
    """A journal, and what was called."""

    database: SqliteDatabase
    journal: Cut
    called: list[str] = field(default_factory=list)


Ctx = LegContext[Services]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_sqlite(StoreOptions(url=f"sqlite:///{tmp_path}/a.db"), None) as database:
        yield Services(database, Cut(database))


def leg(name: str, *outcomes: Any, undo: bool = True, **options: Any) -> Leg:
    """A leg whose calls end as given, and then are done; it says when it was called."""
    left = list(outcomes)

    async def do(_event: Thing, leg: Ctx) -> Any:
        leg.services.called.append(name)
        outcome = left.pop(0) if left else None
        if isinstance(outcome, BaseException):
            raise outcome
        return await outcome(leg) if callable(outcome) else outcome

    async def take_back(_event: Thing, leg: Ctx) -> None:
        leg.services.called.append(f"-{name}")

    return Leg(name, do, undo=take_back if undo else None, **options)


def app(*stages: Leg | Parallel, **options: Any) -> App:
    workflow = Workflow("w", *stages)

    async def carry_out(event: Thing, ctx: Context[Services]) -> Any:
        return await workflow.run(event, ctx, subject=event.thing_id, journal=ctx.services.journal)

    return App(functions=[Stream(Thing, carry_out, **{"max_retry_attempts": -1, **options})])


async def run(services: Services, *stages: Leg | Parallel, events: int = 1, **options: Any) -> testing.Result:
    return await testing.run(app(*stages, **options), [Thing("t")] * events, services=services)


async def states(services: Services) -> dict[str, tuple[str, int]]:
    records = await SqliteJournal(services.database).read("w/t")
    return {one.leg: (one.state, one.attempts) for one in records if one.leg != BEGUN}
