"""Times at which nothing ran: what becomes of them, whether a process, the database, the machine or its clock stood."""

import asyncio
import time
from datetime import timedelta

import pytest

from streamproc.rows import Firing
from streamproc.schedule.scheduler import CATCH_UP_MAX, LOOK_S
from tests.unit.schedule.rig import NOON, World, hours, schedule, virtually


def test_a_schedule_that_is_new_fires_nothing_of_the_past_and_is_caught_up_from_then_on() -> None:
    async def scenario() -> None:
        world = World()
        process = world.start(schedule())
        await asyncio.sleep(1)
        assert world.rows("since") == ["11-26T12:00"]
        await process.stop()
        await hours(5.5)
        assert world.rows() == []
        process = world.start(schedule(), schedule("30 * * * *", "other", catch_up="all"))
        await asyncio.sleep(1)
        assert world.rows() == ["hourly 11-26T17:00 due"]
        await process.stop()

    virtually(scenario())


@pytest.mark.parametrize(
    ("catch_up", "rows"),
    [
        ("none", ["13:00 due", "17:00 missed", "18:00 due"]),
        ("last", ["13:00 due", "17:00 due", "18:00 due"]),
        ("all", ["13:00 due", "14:00 due", "15:00 due", "16:00 due", "17:00 due", "18:00 due"]),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_what_the_rule_says_becomes_of_missed_times(catch_up: str, rows: list[str], processes: int) -> None:
    async def scenario() -> None:
        world = World()
        declared = schedule(catch_up=catch_up, overlap="queue")
        first = world.start(declared)
        await hours(1)
        await first.stop()
        await hours(4.5)
        for _ in range(processes):
            world.start(declared)
        await hours(0.5)
        assert world.rows() == [f"hourly 11-26T{row}" for row in rows]
        assert len(world.memory.events) == len(world.rows("due"))

    virtually(scenario())


@pytest.mark.parametrize(("late_s", "state"), [(0, "due"), (59, "due"), (60, "due"), (61, "missed")])
def test_a_little_late_is_not_missed(late_s: float, state: str) -> None:
    async def scenario() -> None:
        world = World()
        declared = schedule(catch_up="none")
        first = world.start(declared)
        await asyncio.sleep(1)
        await first.stop()
        await asyncio.sleep(3_599 + late_s)
        world.start(declared)
        await asyncio.sleep(0.1)
        assert world.rows() == [f"hourly 11-26T13:00 {state}"]

    virtually(scenario())


def test_of_very_many_missed_times_the_last_thousand_are_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World()
        declared = schedule("* * * * *", catch_up="all", overlap="queue")
        first = world.start(declared)
        await asyncio.sleep(1)
        await first.stop()
        await hours(50)
        world.start(declared)
        await asyncio.sleep(1)
        due = world.rows("due")
        assert (len(due), due[-1]) == (CATCH_UP_MAX + 1, "11-28T14:00")  # the last one is not late
        assert "hourly: the first 1999 of 2999 missed times are left out" in caplog.text

    virtually(scenario())


def test_years_of_missed_minutes_take_no_time() -> None:
    async def scenario() -> None:
        world = World()
        declared = [schedule("* * * * *", f"every-{n}", overlap="queue") for n in range(50)]
        for one in declared:
            begin = NOON - timedelta(days=1_000)
            await world.memory.claim(Firing(one.name, begin, "done", begin), None)
        began = time.process_time()
        world.start(*declared)
        await asyncio.sleep(0.1)
        assert world.rows("due").count("11-26T12:00") == 50
        assert time.process_time() - began < 5

    virtually(scenario())


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
@pytest.mark.parametrize("minutes", [0.5, 300])
def test_an_outage_loses_nothing_and_is_told_once(
    catch_up: str, minutes: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        world = World()
        process = world.start(schedule(catch_up=catch_up, overlap="queue"))
        await asyncio.sleep(3_590)
        world.firings.down = True
        await asyncio.sleep(minutes * 60)
        assert world.rows() == []
        assert not process.task.done()
        assert process.scheduler.ready() == "schedules wait for the database: gone"
        world.firings.down = False
        await asyncio.sleep(2)
        assert process.scheduler.ready() == ""
        late = {"none": [], "last": ["11-26T17:00"], "all": [f"11-26T{hour}:00" for hour in range(13, 18)]}
        assert world.rows("due") == (["11-26T13:00"] if minutes < 1 else late[catch_up])
        assert caplog.text.count("schedules wait for the database: gone") == 1
        world.firings.down = True
        await hours(1)
        assert caplog.text.count("schedules wait for the database: gone") == 2

    virtually(scenario())


def test_a_claim_whose_answer_was_lost_is_not_made_again() -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule(overlap="queue"))
        await asyncio.sleep(1)
        world.firings.loses = 1
        await hours(2)
        assert world.rows("due") == ["11-26T13:00", "11-26T14:00"]
        assert len(world.memory.events) == 2

    virtually(scenario())


def test_a_machine_that_was_suspended_catches_up_within_half_a_minute() -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule(overlap="queue"))
        await asyncio.sleep(60)
        world.ahead_s = 10.5 * 3_600
        await asyncio.sleep(LOOK_S + 0.1)
        assert world.rows("due") == ["11-26T22:00"]

    virtually(scenario())


def test_a_clock_that_is_set_back_fires_nothing_twice_and_one_set_ahead_is_seen() -> None:
    async def scenario() -> None:
        world = World()
        declared = schedule(overlap="queue")
        first = world.start(declared)
        await hours(2)
        world.ahead_s = -5_400
        await hours(1)
        assert world.rows("due") == ["11-26T13:00", "11-26T14:00"]
        await first.stop()
        world.start(declared)
        await hours(0.25)
        assert world.rows("due") == ["11-26T13:00", "11-26T14:00"]
        await hours(1.25)
        assert world.rows("due") == ["11-26T13:00", "11-26T14:00", "11-26T15:00"]
        assert len(world.memory.events) == 3

    virtually(scenario())
