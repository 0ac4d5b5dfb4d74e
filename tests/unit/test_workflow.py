"""Workflows through the real pipeline, their legs in a real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from streamproc import (
    App,
    Context,
    Event,
    Leg,
    LegContext,
    Parallel,
    Reject,
    RetryLater,
    Stream,
    Workflow,
    testing,
)
from streamproc.adapters.sqlite import SqliteDatabase, open_sqlite
from streamproc.adapters.sqlite_journal import SqliteJournal, write_leg
from streamproc.adapters.store import StoreOptions
from streamproc.errors import StoreError
from streamproc.rows import LegRecord


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
    return {one.leg: (one.state, one.attempts) for one in await SqliteJournal(services.database).read("w/t")}


async def test_legs_are_called_in_order_and_once(services: Services) -> None:
    result = await run(services, leg("a"), Parallel(leg("b"), leg("c")), leg("d"), events=3)
    assert result.count("ok") == 3
    assert services.called == ["a", "b", "c", "d"]
    assert await states(services) == dict.fromkeys("abcd", ("done", 1))


async def test_legs_in_parallel_run_at_once(services: Services) -> None:
    met = asyncio.Barrier(3)

    async def meet(_leg: Ctx) -> None:
        await met.wait()

    result = await run(services, Parallel(*(leg(name, meet) for name in "abc")))
    assert (result.count("ok"), result.elapsed_s < 5) == (1, True)


async def test_a_retry_repeats_only_what_is_not_done(services: Services) -> None:
    lost = ConnectionResetError()
    result = await run(services, leg("a"), Parallel(leg("b", lost, RetryLater(5)), leg("c", lost)), leg("d", lost))
    assert (result.count("ok"), result.count("retried")) == (1, 3)
    assert services.called == ["a", "b", "c", "b", "c", "b", "d", "d"]
    assert await states(services) == {"a": ("done", 1), "b": ("done", 3), "c": ("done", 2), "d": ("done", 2)}


async def test_a_failure_lets_those_beside_it_finish(services: Services) -> None:
    async def later(_leg: Ctx) -> None:
        await asyncio.sleep(3)

    await run(services, Parallel(leg("a", OSError()), leg("b", later)))
    assert services.called == ["a", "b", "a"]


async def test_retry_later_waits_as_long_as_asked(services: Services) -> None:
    result = await run(services, Parallel(leg("a", RetryLater(60)), leg("b", RetryLater(7200, "closed"))))
    assert result.elapsed_s >= 7200
    assert await states(services) == {"a": ("done", 2), "b": ("done", 2)}


@pytest.mark.parametrize("refuses", ["b", "c"])
async def test_a_rejection_undoes_the_other_legs_and_is_the_dead_letters_reason(
    services: Services, refuses: str
) -> None:
    legs = [leg(name, *([Reject("no", "why")] if name == refuses else [])) for name in "abc"]
    result = await run(services, legs[0], Parallel(*legs[1:]), leg("d"), events=2)
    [first, again] = result.dead_letters
    assert (first.reason, first.message, again.reason, again.message) == ("no", "why", "no", "why")
    other = "b" if refuses == "c" else "c"
    assert services.called == ["a", "b", "c", f"-{other}", "-a"]
    assert await states(services) == {"a": ("undone", 1), other: ("undone", 1), refuses: ("rejected", 1)}


async def test_legs_of_later_stages_and_those_without_undo_are_left_alone(services: Services) -> None:
    await run(services, leg("a", undo=False), leg("b", Reject("no")), leg("c"))
    assert services.called == ["a", "b"]
    assert await states(services) == {"a": ("done", 1), "b": ("rejected", 1)}


async def test_a_leg_that_may_have_had_an_effect_is_undone_too(services: Services) -> None:
    await run(services, Parallel(leg("a", TimeoutError()), leg("b", Reject("no"))))
    assert services.called == ["a", "b", "-a"]
    assert await states(services) == {"a": ("undone", 1), "b": ("rejected", 1)}


async def test_a_leg_that_nobody_recorded_is_undone_when_the_other_rejected(services: Services) -> None:
    services.journal.writes = {1}  # of a, after its effect
    await run(services, Parallel(leg("a"), leg("b", Reject("no"))))
    assert services.called == ["a", "b", "-a"]
    assert await states(services) == {"a": ("undone", 0), "b": ("rejected", 1)}


async def test_of_two_rejections_the_first_is_the_reason_of_every_dead_letter(services: Services) -> None:
    async def later(_leg: Ctx) -> Reject:
        await asyncio.sleep(1)
        return Reject("later")

    result = await run(services, Parallel(leg("a", later), leg("b", Reject("first"))), events=2)
    assert [one.reason for one in result.dead_letters] == ["first", "first"]


async def test_a_leg_that_another_process_gave_up_meanwhile_is_not_done(services: Services) -> None:
    async def overtaken(leg: Ctx) -> None:
        await leg.services.journal.write(leg.ended("failed", Reject("OSError")))

    result = await run(services, leg("a", overtaken, max_attempts=1), leg("b"))
    assert [one.reason for one in result.dead_letters] == ["retries_exhausted"]
    assert services.called == ["a", "-a"]


async def test_undoing_goes_on_where_it_stopped(services: Services) -> None:
    services.journal.writes = {4}  # a, b and the rejection of c were written; undoing b was not
    result = await run(services, leg("a"), leg("b"), leg("c", Reject("no")))
    assert services.called == ["a", "b", "c", "-b", "-b", "-a"]
    assert result.dead_letters == [testing.DeadLetter("no", "test-0")]


async def test_what_fails_too_often_counts_as_rejected(services: Services) -> None:
    result = await run(services, leg("a"), leg("b", *[OSError()] * 5, max_attempts=3), events=2)
    assert [one.message for one in result.dead_letters] == ["b: OSError"] * 2
    assert {one.reason for one in result.dead_letters} == {"retries_exhausted"}
    assert services.called == ["a", "b", "b", "b", "-b", "-a"]
    assert await states(services) == {"a": ("undone", 1), "b": ("undone", 3)}


async def test_a_leg_without_a_limit_is_tried_for_ever(services: Services) -> None:
    result = await run(services, leg("a", *[OSError()] * 30, max_attempts=-1))
    assert result.count("ok") == 1
    assert await states(services) == {"a": ("done", 31)}


async def test_a_leg_has_a_time_limit_of_its_own(services: Services) -> None:
    async def never(_leg: Ctx) -> None:
        await asyncio.Event().wait()

    result = await run(services, Parallel(leg("a", never, timeout_s=2), leg("b")))
    assert (result.count("ok"), result.elapsed_s < 5) == (1, True)
    assert services.called == ["a", "b", "a"]


async def test_an_outage_of_the_journal_uses_up_no_attempts(services: Services) -> None:
    services.journal.reads = set(range(1, 6))
    services.journal.writes = {1, 2}
    result = await run(services, leg("a", max_attempts=1))
    assert result.count("ok") == 1
    assert services.called == ["a"] * 3
    assert await states(services) == {"a": ("done", 1)}


async def test_a_leg_recorded_by_its_store_is_written_once(services: Services) -> None:
    async def effect(leg: Ctx) -> None:
        leg.result = "r-1"
        record = leg.record()
        await leg.services.database.run(lambda connection: write_leg(connection, record))

    async def later(leg: Ctx) -> Reject | None:
        return None if leg.results == {"a": "r-1"} else Reject("other", str(leg.results))

    result = await run(services, leg("a", effect), leg("b", later))
    assert (result.count("ok"), services.journal.calls["write"]) == (1, 1)


async def test_a_leg_without_a_store_may_leave_a_result_too(services: Services) -> None:
    async def leave(leg: Ctx) -> None:
        leg.result = "r-1"

    await run(services, leg("a", leave))
    [found] = await services.journal.read("w/t")
    assert found.result == "r-1"


async def test_an_effect_that_was_rolled_back_is_no_record(services: Services) -> None:
    async def effect(leg: Ctx) -> Reject:
        leg.record()
        return Reject("short")

    await run(services, leg("a", effect))
    assert await states(services) == {"a": ("rejected", 1)}


async def test_a_leg_that_ended_elsewhere_is_found_by_the_retry(services: Services) -> None:
    async def effect(leg: Ctx) -> None:
        record = leg.record()
        await leg.services.database.run(lambda connection: write_leg(connection, replace(record, result="theirs")))
        await leg.services.database.run(lambda connection: write_leg(connection, record))

    result = await run(services, leg("a", effect))
    assert (result.count("ok"), services.called) == (1, ["a"])
    [found] = await services.journal.read("w/t")
    assert (found.result, found.attempts) == ("theirs", 1)


async def test_another_event_of_the_same_subject_is_a_conflict(services: Services) -> None:
    things = [Thing("t"), Thing("t", 2), Thing("t")]
    result = await testing.run(app(leg("a")), things, services=services)
    assert result.dead_letters == [testing.DeadLetter("conflict", "test-1")]
    assert (services.called, result.count("ok")) == (["a"], 2)


async def test_a_leg_knows_its_attempt_and_a_key_that_stays(services: Services) -> None:
    seen: list[Any] = []

    async def look(leg: Ctx) -> None:
        seen.append((leg.name, leg.attempt, leg.key, leg.ctx.topic, leg.now >= leg.started_at))
        raise OSError

    await run(services, leg("a", look, look))
    assert seen == [("a", n, "w/t/a", "events", True) for n in (1, 2)]


async def test_what_is_no_outcome_is_a_failure(services: Services) -> None:
    await run(services, leg("a", "done", True), max_retry_attempts=1)
    assert await states(services) == {"a": ("failed", 2)}


async def test_a_run_that_is_cut_off_goes_on_with_what_is_left(services: Services) -> None:
    async def never(_leg: Ctx) -> None:
        await asyncio.Event().wait()

    result = await run(services, leg("a"), Parallel(leg("b"), leg("c", never, timeout_s=100)), timeout_s=1)
    assert result.count("ok") == 1
    assert services.called == ["a", "b", "c", "c"]
