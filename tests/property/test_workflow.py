"""Workflows of processes on one SQLite file, in virtual time: whatever fails, hangs, is killed or overtaken, in the end
all of a run is done once, or none of it is left."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import example, given, note
from hypothesis import strategies as st

from handlers.payments import Declined, LocalPayments
from handlers.stores.opening import MIGRATIONS
from handlers.stores.payments import SqliteLedger
from streamproc import Event, Leg, LegContext, Parallel, Reject, RetryLater, Workflow
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_journal import SqliteJournal, write_leg
from streamproc.adapters.store import StoreOptions
from streamproc.errors import StoreError
from streamproc.rows import LegRecord
from streamproc.virtualtime import run
from streamproc.workflow import BEGUN

PROCESSES = 3
RETRY_S, TIMEOUT_S = 1.0, 10.0
APART_S = 0.001
"""Between what processes, and legs, do at once: their threads must not race, or no failure could be repeated."""


class Thing(Event, tag="thing"):
    thing_id: str


class Plan(NamedTuple):
    """A leg: its effect shares the transaction of its row (`inside`), or is another company's."""

    where: Literal["inside", "outside"]
    refuses: bool = False
    has_undo: bool = True
    max_attempts: int = -1


class Trouble(NamedTuple):
    """What one call meets: pauses (s) before and after what it does, of which each may be too long, and a failure."""

    before_s: float = 0
    fails: Literal["", "before", "after", "later"] = ""
    after_s: float = 0

    async def before(self, error: type[Exception]) -> None:
        await asyncio.sleep(self.before_s)
        if self.fails == "before":
            raise error("nothing was done")

    async def after(self, error: type[Exception]) -> None:
        await asyncio.sleep(self.after_s)
        if self.fails == "after":
            raise error("it was done")


class Life(NamedTuple):
    """Of a process: when it begins the run, and how long after that it is killed (s); 0: never."""

    begins_s: int
    killed_after_s: int = 0


Script = Mapping[str, Sequence[Trouble]]
"""What the calls of a process meet in turn, by `read`, a leg's name, `-` and it (undo), or `=` and it (its row)."""

NAMES = "abcde"
places, limits = st.sampled_from(["inside", "outside"]), st.sampled_from([-1, 1, 2, 3])
plans = st.one_of(
    st.builds(Plan, places, refuses=st.just(False), has_undo=st.booleans(), max_attempts=limits),
    st.builds(Plan, places, refuses=st.booleans(), has_undo=st.just(True), max_attempts=limits),
)
stages = st.lists(st.lists(plans, min_size=1, max_size=3), min_size=1, max_size=4).filter(
    lambda one: sum(map(len, one)) <= len(NAMES)
)
pauses, failures = st.sampled_from([0, 0, 1, 3, TIMEOUT_S + 2]), st.sampled_from(["", "", "before", "after", "later"])
troubles = st.lists(st.builds(Trouble, pauses, failures, pauses), max_size=4)
scripts = st.fixed_dictionaries(
    {}, optional={k: troubles for n in NAMES for k in (n, f"-{n}", f"={n}")} | {"read": troubles}
)
lives = st.builds(Life, st.integers(0, 40), st.integers(0, 40) | st.just(0))


class Process:
    """One that carries out the run, again after each failure, until it ends or the process is killed."""

    def __init__(self, world: "World", number: int, script: Script) -> None:
        self.world = world
        self.number = number
        self.database = world.databases[number]
        self.done: set[str] = set()
        self.journal = Unsound(self)
        self._script = {name: iter(several) for name, several in script.items()}

    def trouble(self, name: str) -> Trouble:
        return next(self._script.get(name, iter(())), Trouble())

    async def carry_out(self) -> None:
        around: Any = Around(self)
        while True:
            try:
                returned = await self.world.workflow.run(Thing("t"), around, subject="t", journal=self.journal)
            except (OSError, StoreError, TimeoutError):
                returned = RetryLater(RETRY_S)
            if not isinstance(returned, RetryLater):
                self.world.returned.append(returned)
                return
            await asyncio.sleep(returned.after_s)


class Around(NamedTuple):
    """What legs see of the context of a call."""

    services: Process
    is_last_attempt: bool = False

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(1_700_000_000 + asyncio.get_running_loop().time(), UTC)


class Unsound(SqliteJournal):
    """A journal that is slow, or does not answer, before or after it did what it was asked."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.database)
        self._process = process

    async def read(self, run_id: str) -> Sequence[LegRecord]:
        trouble = self._process.trouble("read")
        await trouble.before(StoreError)
        found = await super().read(run_id)
        self._process.done = {one.leg for one in found if one.state == "done"}
        await trouble.after(StoreError)
        return found

    async def write(self, record: LegRecord) -> bool:
        trouble = self._process.trouble(f"={record.leg}")
        await trouble.before(StoreError)
        written = await super().write(record)
        await trouble.after(StoreError)
        return written


class World:
    """A workflow, its database, of which each process has a connection, and the ledger of another company."""

    def __init__(self, planned: Sequence[Sequence[Plan]], databases: Sequence[SqliteDatabase]) -> None:
        names = iter(NAMES)
        self.databases = databases
        self.plans = {next(names): plan for stage in planned for plan in stage}
        self.payments = LocalPayments(SqliteLedger(databases[PROCESSES]))
        self.returned: list[Reject | None] = []
        self.undone: list[str] = []
        self.again: list[str] = []
        names = iter(self.plans)
        self.workflow = Workflow("w", *(Parallel(*(self._leg(next(names)) for _ in stage)) for stage in planned))

    async def clear(self) -> None:
        await self.ask(0, "DELETE FROM workflow_legs")
        await self.ask(0, "CREATE TABLE IF NOT EXISTS effects (leg TEXT NOT NULL, change INTEGER NOT NULL)")
        await self.ask(0, "DELETE FROM effects")
        await self.ask(PROCESSES, "DELETE FROM payments")

    async def ask(self, number: int, sql: str) -> list[Any]:
        return await self.databases[number].run(lambda connection: connection.execute(sql).fetchall())

    def _leg(self, name: str) -> Leg:
        plan = self.plans[name]
        undo = self._undo if plan.has_undo else None
        return Leg(name, self._do, undo=undo, timeout_s=TIMEOUT_S, max_attempts=plan.max_attempts)

    async def _do(self, _event: Thing, leg: LegContext[Process]) -> Reject | RetryLater | None:
        process, plan = leg.services, self.plans[leg.name]
        self.again += [leg.name] if leg.name in process.done else []
        trouble = process.trouble(leg.name)
        await asyncio.sleep(NAMES.index(leg.name) * 10 * APART_S)
        await trouble.before(OSError)
        if trouble.fails == "later":
            return RetryLater(2)
        if plan.refuses:
            return Reject(f"{leg.name} refuses")
        if plan.where == "inside":
            await process.database.run(_effect(leg.record(), 1))
        else:
            try:
                await self.payments.charge(leg.key, "", 1)
            except Declined:
                return Reject("declined")
        await trouble.after(OSError)
        return None

    async def _undo(self, _event: Thing, leg: LegContext[Process]) -> None:
        process, plan = leg.services, self.plans[leg.name]
        self.undone.append(leg.name)
        trouble = process.trouble(f"-{leg.name}")
        await trouble.before(OSError)
        if plan.where == "inside":
            await process.database.run(_effect(leg.record(), -1))
        else:
            await self.payments.refund(leg.key)
        await trouble.after(OSError)

    async def live(self, life: Life, process: Process) -> None:
        await asyncio.sleep(life.begins_s + process.number * APART_S)
        running = asyncio.create_task(process.carry_out())
        await asyncio.wait([running], timeout=life.killed_after_s or 1_000)
        running.cancel()
        await asyncio.gather(running, return_exceptions=not running.done())
        for number in (process.number, PROCESSES):
            await self.ask(number, "SELECT 1")  # what it began is written by now

    async def check(self, rivals: int) -> None:
        """What holds at the end. Only where nothing was undone, rivals may each say another reason."""
        returned = self.returned[-1]
        assert {one is None for one in self.returned} == {returned is None}
        assert self.again == []
        records = await SqliteJournal(self.databases[0]).read("w/t")
        states = {one.leg: one.state for one in records if one.leg != BEGUN}
        rows = await self.ask(0, "SELECT leg, change FROM effects")
        ledger = await self.ask(PROCESSES, "SELECT key, state FROM payments")
        kept = Counter(key.removeprefix("w/t/") for key, state in ledger if state == "kept")
        for leg, change in rows:
            kept[leg] += change
        assert max(Counter(rows).values(), default=1) == 1
        assert set(self.returned) == {returned} or (rivals > 1 and "undone" not in states.values())
        if returned is None:
            assert states == dict.fromkeys(self.plans, "done")
            assert kept == dict.fromkeys(self.plans, 1)
            assert self.undone == []
        else:
            assert {leg for leg, count in kept.items() if count and self.plans[leg].has_undo} == set()
            reasons = {f"{leg} refuses" for leg, plan in self.plans.items() if plan.refuses}
            assert returned.reason in reasons | {"retries_exhausted"}


def _effect(record: LegRecord, change: int) -> Any:
    """An effect and its row; what was not done, or is no more, is not undone."""

    def work(connection: Any) -> None:
        write_leg(connection, record)
        taken = connection.execute("SELECT sum(change) FROM effects WHERE leg = ?", (record.leg,)).fetchone()[0]
        if change > 0 or taken:
            connection.execute("INSERT INTO effects VALUES (?, ?)", (record.leg, change))

    return work


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[SqliteDatabase]]:
    """Connections to one file, each with a writer of its own; the last is another company's."""
    folder = tmp_path_factory.mktemp("workflow")
    names = ["a"] * PROCESSES + ["b"]
    with asyncio.Runner() as runner:
        opened = [open_sqlite(StoreOptions(url=f"sqlite:///{folder}/{name}.db"), MIGRATIONS) for name in names]
        yield [runner.run(one.__aenter__()) for one in opened]
        for one in opened:
            runner.run(one.__aexit__(None, None, None))


@example(  # a payment that is declined because it was refunded is no reason
    [[Plan("inside", has_undo=False, max_attempts=1), Plan("outside")]],
    [
        (Life(0), {"a": [Trouble(2, "before")], "b": [Trouble(0, "before")], "-b": [Trouble(after_s=3)]}),
        (Life(1), {"a": [Trouble(12)], "b": [Trouble(3)]}),
    ],
)
@example([[Plan("inside", refuses=True)] * 2], [(Life(0), {"a": [Trouble(1)]})])  # of two rejections the first counts
@example(  # one process gives the payment up and refunds it, while another has charged it and is about to say so
    [[Plan("outside", max_attempts=1)], [Plan("inside", has_undo=False)]],
    [
        (Life(0), {"a": [Trouble(2, "before")], "-a": [Trouble(after_s=9)]}),
        (Life(0), {"a": [Trouble(1)], "=a": [Trouble(3)]}),
    ],
)
@example(  # what was taken back tells the reason, not a rejection that was written although no answer came
    [[Plan("inside", refuses=True, has_undo=False), Plan("inside", max_attempts=1)]],
    [(Life(0), {"=a": [Trouble(fails="after")], "b": [Trouble(12)]})],
)
@given(planned=stages, story=st.lists(st.tuples(lives, scripts), min_size=1, max_size=PROCESSES))
def test_all_is_done_once_or_nothing_is_left(
    databases: Sequence[SqliteDatabase], planned: list[list[Plan]], story: list[tuple[Life, Script]]
) -> None:
    async def scenario() -> None:
        world = World(planned, databases)
        await world.clear()
        processes = [Process(world, number, script) for number, (_, script) in enumerate(story)]
        await asyncio.gather(*(world.live(life, one) for (life, _), one in zip(story, processes, strict=True)))
        await asyncio.wait_for(Process(world, 0, {}).carry_out(), 1_000)
        await asyncio.wait_for(Process(world, 0, {}).carry_out(), 1_000)  # finds the same
        note(f"{planned}\n{story}\n{world.returned}\n{await SqliteJournal(databases[0]).read('w/t')}")
        await world.check(len(story))

    run(scenario())
