"""The scheduler in virtual time: each time once, with its record, and nothing in between."""

import asyncio
import time

import msgspec
import pytest

from streamproc import Schedule, TaskDue
from streamproc.model import ScheduleSnapshot
from streamproc.rows import Firing
from streamproc.schedule.scheduler import LOOK_S, Scheduler, task_record
from streamproc.stream.options import StreamOptions
from tests.unit.schedule.rig import NOON, OPTIONS, World, at, clean, hours, ids, schedule, virtually


def test_each_time_is_claimed_with_its_record() -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule(overlap="queue"))
        await hours(2)
        assert world.rows() == ["hourly 11-26T13:00 due", "hourly 11-26T14:00 due"]
        assert ids(world.memory.events) == [
            "hourly/2026-11-26T13:00:00+00:00",
            "hourly/2026-11-26T14:00:00+00:00",
        ]
        assert world.stored == 2

    virtually(scenario())


def test_the_record_names_the_schedule_and_the_time() -> None:
    record = task_record(schedule(), NOON, OPTIONS)
    assert (record.topic, record.key) == ("events", b"hourly")
    assert msgspec.json.decode(record.value or b"") == {
        "type": "task.due.hourly",
        "schedule": "hourly",
        "fireAt": "2026-11-26T12:00:00Z",
    }
    assert dict(record.headers)["ce_type"] == b"task.due.hourly"
    assert task_record(schedule(topic="others"), NOON, OPTIONS).topic == "others"
    kinesis = task_record(schedule(), NOON, StreamOptions())
    assert msgspec.json.decode(kinesis.value or b"")["eventID"] == "hourly/2026-11-26T12:00:00+00:00"


def test_of_several_processes_one_claims_a_time() -> None:
    async def scenario() -> None:
        world = World()
        processes = [world.start(schedule(overlap="queue"), schedule("*/15 * * * *", "often")) for _ in range(3)]
        await hours(1)
        assert len(ids(world.memory.events)) == len(set(ids(world.memory.events))) == 2
        claimed = [sum(one.scheduler.snapshot().claimed.values()) for one in processes]
        assert sum(claimed) == len(world.rows()) == 5

    virtually(scenario())


def test_a_time_is_skipped_while_an_earlier_firing_is_not_done(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule("*/20 * * * *"))
        await hours(1 / 3)
        [first] = [one for one in world.memory.rows.values() if one.state == "due"]
        await hours(1 / 3)
        await world.memory.move(Firing("hourly", first.fire_at, "running", at("11-26T13:10")))
        await hours(1 / 3)
        await world.memory.move(Firing("hourly", first.fire_at, "done", at("11-26T13:10")))
        await hours(1 / 3)
        assert world.rows() == [
            "hourly 11-26T12:20 done",
            "hourly 11-26T12:40 skipped",
            "hourly 11-26T13:00 skipped",
            "hourly 11-26T13:20 due",
        ]
        assert len(world.memory.events) == 2
        assert caplog.text.count("hourly: skipped at 2026-11-26 1") == 2

    virtually(scenario())


def test_a_firing_whose_lease_ran_out_holds_up_nothing() -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule("*/20 * * * *", timeout_s=10))
        await hours(2)
        assert world.rows("due") == ["11-26T12:20", "11-26T13:20"]
        assert len(world.rows("skipped")) == 4

    virtually(scenario())


def test_queued_firings_wait_for_each_other_on_the_stream() -> None:
    async def scenario() -> None:
        world = World()
        world.start(schedule("*/20 * * * *", overlap="queue"))
        await hours(1)
        assert world.rows("due") == ["11-26T12:20", "11-26T12:40", "11-26T13:00"]
        assert {event.key for event in world.memory.events} == {b"hourly"}

    virtually(scenario())


def test_a_bug_is_logged_and_it_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        world = World()
        process = world.start(schedule())
        await asyncio.sleep(3_590)
        world.firings.bug = ZeroDivisionError("oh")
        await asyncio.sleep(20)
        assert process.scheduler.ready() == "the scheduler failed and starts again: ZeroDivisionError: oh"
        world.firings.bug = None
        await asyncio.sleep(2)
        assert process.scheduler.ready() == ""
        assert world.rows("due") == ["11-26T13:00"]
        assert not process.task.done()
        assert caplog.messages.count("the scheduler failed and starts again") == 1
        assert "ZeroDivisionError" in caplog.text

    virtually(scenario())


def test_the_time_zone_decides() -> None:
    async def scenario() -> None:
        world = World()
        world.start(
            schedule("0 3 * * *", "berlin", tz="Europe/Berlin"), schedule("0 3 * * *", "tokyo", tz="Asia/Tokyo")
        )
        await hours(24)
        assert world.rows() == ["tokyo 11-26T18:00 due", "berlin 11-27T02:00 due"]

    virtually(scenario())


def test_a_thousand_schedules_sleep() -> None:
    async def scenario() -> None:
        world = World()
        process = world.start(*(schedule("0 3 * * *", f"daily-{n}") for n in range(1_000)))
        await asyncio.sleep(1)
        world.waits.clear()
        asked, began = world.firings.asked, time.process_time()
        await hours(14)
        used_s = time.process_time() - began
        assert len(world.waits) == 14 * 3_600 / LOOK_S
        assert world.firings.asked == asked
        assert used_s < 0.01 * 14 * 3_600
        await hours(1.5)
        assert len(world.rows("due")) == 1_000
        await process.stop()

    virtually(scenario())


def test_no_schedules_ask_for_nothing() -> None:
    async def scenario() -> None:
        world = World()
        process = world.start()
        await hours(1)
        assert world.firings.asked == 1
        await process.stop()
        assert process.task.cancelled()

    virtually(scenario())


def test_what_was_claimed_is_counted_by_state_and_the_next_times_are_told() -> None:
    async def scenario() -> None:
        world = World()
        process = world.start(schedule("*/30 * * * *"), schedule("0 3 * * *", "daily"))
        await hours(1)
        assert process.scheduler.snapshot() == ScheduleSnapshot(
            claimed={("hourly", "due"): 1, ("hourly", "skipped"): 1},
            next_at={"hourly": at("11-26T13:30").timestamp(), "daily": at("11-27T03:00").timestamp()},
        )

    virtually(scenario())


async def test_it_runs_by_the_real_clock_until_it_is_stopped() -> None:
    world = World()
    every_second: Schedule = Schedule("each", "* * * * * *", clean, overlap="queue")
    scheduler = Scheduler([every_second], world.firings, OPTIONS, stored=world._note)
    running = asyncio.create_task(scheduler.run())
    async with asyncio.timeout(10):
        while world.stored < 2:
            await asyncio.sleep(0.01)
    await scheduler.stop(running)
    assert running.cancelled()
    task = msgspec.json.decode(world.memory.events[0].value or b"", type=every_second.event)
    assert isinstance(task, TaskDue)
    assert abs(task.fire_at.timestamp() - time.time()) < 10
