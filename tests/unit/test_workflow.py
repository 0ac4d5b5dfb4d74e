"""Workflows: what is called, how often, and what is remembered."""

import asyncio
from typing import Any

import pytest

from streamproc import Parallel, Reject, RetryLater
from streamproc.adapters.sqlite_journal import write_leg
from tests.unit.workflows import Ctx, Services, leg, run, services, states

__all__ = ["services"]


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


async def test_a_leg_knows_its_attempt_and_a_key_that_stays(services: Services) -> None:
    seen: list[Any] = []

    async def look(leg: Ctx) -> None:
        seen.append((leg.name, leg.attempt, leg.key, leg.ctx.topic, leg.now >= leg.started_at, dict(leg.results)))
        raise OSError

    await run(services, leg("a", look, look))
    assert seen == [("a", n, "w/t/a", "events", True, {}) for n in (1, 2)]


async def test_what_is_no_outcome_is_a_failure(services: Services) -> None:
    result = await run(services, leg("a", "done", True), max_retry_attempts=1)
    assert [one.message for one in result.dead_letters] == ["a: HandlerError"]


async def test_a_run_that_is_cut_off_goes_on_with_what_is_left(services: Services) -> None:
    async def never(_leg: Ctx) -> None:
        await asyncio.Event().wait()

    result = await run(services, leg("a"), Parallel(leg("b"), leg("c", never, timeout_s=100)), timeout_s=1)
    assert result.count("ok") == 1
    assert services.called == ["a", "b", "c", "c"]
