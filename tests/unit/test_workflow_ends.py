"""Workflows that end without being done: what is taken back, and what the dead letter says."""

import asyncio
from dataclasses import replace

from streamproc import Parallel, Reject, testing
from streamproc.adapters.sqlite_journal import write_leg
from streamproc.model import OutRecord
from tests.unit.workflows import Ctx, Services, Thing, app, leg, run, services, states

__all__ = ["services"]


async def test_legs_of_later_stages_and_those_without_undo_are_left_alone(services: Services) -> None:
    await run(services, leg("a", undo=False), leg("b", Reject("no")), leg("c"))
    assert services.called == ["a", "b"]
    assert await states(services) == {"a": ("done", 1), "b": ("rejected", 1)}


async def test_a_leg_that_may_have_had_an_effect_is_undone_too(services: Services) -> None:
    await run(services, Parallel(leg("a", TimeoutError()), leg("b", Reject("no"))))
    assert services.called == ["a", "b", "-a"]
    assert await states(services) == {"a": ("undone", 1), "b": ("rejected", 1)}


async def test_a_leg_that_nobody_recorded_is_undone_when_the_other_rejected(services: Services) -> None:
    services.journal.writes = {2}  # of a, after its effect
    await run(services, Parallel(leg("a"), leg("b", Reject("no"))))
    assert services.called == ["a", "b", "-a"]
    assert await states(services) == {"a": ("undone", 0), "b": ("rejected", 1)}


async def test_undoing_goes_on_where_it_stopped(services: Services) -> None:
    services.journal.writes = {4}  # a, b and the rejection of c were written; undoing b was not
    result = await run(services, leg("a"), leg("b"), leg("c", Reject("no")))
    assert services.called == ["a", "b", "c", "-b", "-b", "-a"]
    assert result.dead_letters == [testing.DeadLetter("no", "test-0")]


async def test_undoing_has_the_time_limit_of_its_leg(services: Services) -> None:
    async def hang_once(_event: Thing, leg: Ctx) -> None:
        leg.services.called.append("-a")
        if leg.services.called.count("-a") == 1:
            await asyncio.Event().wait()

    result = await run(services, replace(leg("a", timeout_s=2), undo=hang_once), leg("b", Reject("no")))
    assert (services.called, result.elapsed_s < 10) == (["a", "b", "-a", "-a"], True)


async def test_what_fails_too_often_counts_as_rejected(services: Services) -> None:
    result = await run(services, leg("a"), leg("b", *[OSError()] * 5, max_attempts=3), events=2)
    assert [one.message for one in result.dead_letters] == ["b: OSError"] * 2
    assert {one.reason for one in result.dead_letters} == {"retries_exhausted"}
    assert services.called == ["a", "b", "b", "b", "-b", "-a"]
    assert await states(services) == {"a": ("undone", 1), "b": ("undone", 3)}


async def test_what_fails_in_the_last_attempt_of_the_function_is_taken_back(services: Services) -> None:
    legs = leg("a"), Parallel(leg("b", *[OSError()] * 9), leg("c")), leg("d")
    result = await run(services, *legs, max_retry_attempts=2)
    [letter] = result.dead_letters
    assert (letter.reason, letter.message) == ("retries_exhausted", "b: OSError")
    assert services.called == ["a", "b", "c", "b", "b", "-c", "-b", "-a"]
    assert await states(services) == {"a": ("undone", 1), "b": ("undone", 3), "c": ("undone", 1)}


async def test_an_outage_in_the_last_attempt_leaves_a_run_that_can_go_on(services: Services) -> None:
    services.journal.reads = {2, 3}
    first = await run(services, leg("a"), leg("b", OSError()), max_retry_attempts=2)
    assert [one.reason for one in first.dead_letters] == ["RetryAttemptsExhausted"]
    assert await states(services) == {"a": ("done", 1), "b": ("failed", 1)}
    again = await run(services, leg("a"), leg("b"))
    assert (again.count("ok"), services.called) == (1, ["a", "b", "b"])


async def test_of_two_events_of_one_subject_at_once_one_has_the_first_legs(services: Services) -> None:
    async def later(_leg: Ctx) -> None:
        await asyncio.sleep(1)

    stages = Parallel(leg("a", later, later), leg("b", later, later))
    records = [OutRecord("events", testing.envelope(Thing("t", size)), b"%d" % size) for size in (1, 2)]
    result = await testing.run(app(stages), records, services=services)
    assert (result.count("ok"), [one.reason for one in result.dead_letters]) == (1, ["conflict"])
    assert sorted(services.called) == ["a", "b"]


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
