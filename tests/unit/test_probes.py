"""What probes are told of all parts of a process, and the log of what lasts."""

import asyncio
import logging

import pytest

from streamproc.model import FunctionSnapshot
from streamproc.probes import Health, Told, watching
from streamproc.stream.health import CallLimits
from streamproc.stream.pool import Pool


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Part:
    """A part with a reason that a test sets."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def ready(self) -> str:
        return self.reason


class SilentPool(Pool):
    """A pool whose Kafka client hears nothing."""

    reads = True

    def __init__(self) -> None:
        super().__init__([])

    def silent_s(self) -> float:
        return 1_000.0


async def answers() -> bool:
    return True


def made(clock: Clock) -> Health:
    health = Health({"get": CallLimits(2, 5.0)}, clock, answers)
    health.phase = ""
    return health


async def test_it_is_not_ready_before_it_has_started() -> None:
    health = Health({}, Clock(), answers)
    assert (health.ready(), health.live()) == ("it starts", "")
    health.phase = "waiting for Kafka at k:9092"
    assert (health.ready(), health.live()) == ("waiting for Kafka at k:9092", "")
    health.phase = ""
    assert health.ready() == ""


async def test_every_part_is_asked() -> None:
    health = made(Clock())
    relay, scheduler = Part(), Part()
    health.add(relay)
    health.add(scheduler)
    assert health.ready() == ""
    relay.reason, scheduler.reason = "the outbox cannot be read: gone", "schedules wait for the database: gone"
    assert health.ready() == "the outbox cannot be read: gone; schedules wait for the database: gone"
    assert health.live() == ""


async def test_a_background_task_that_ended_by_itself_is_death() -> None:
    async def fails() -> None:
        raise RuntimeError("a fault of ours")

    health = made(Clock())
    task = asyncio.create_task(fails(), name="relay")
    health.rely_on(task)
    assert health.live() == ""
    await asyncio.wait([task])
    assert health.live() == "its relay has ended: RuntimeError: a fault of ours"
    health.phase = "it is stopping"
    assert health.live() == ""


async def test_a_watch_that_fails_is_death(monkeypatch: pytest.MonkeyPatch) -> None:
    health = made(Clock())
    monkeypatch.setattr(health, "look", lambda: 1 / 0)
    async with watching(health), asyncio.timeout(20):
        while not health.live():
            await asyncio.sleep(0)
    assert health.live() == "its watch of itself has ended: ZeroDivisionError: division by zero"


async def test_requests_that_hold_every_place_for_ever_are_death() -> None:
    clock = Clock()
    health = made(clock)
    health.answer(lambda: [FunctionSnapshot("get", 0, 2, 0, (0,), 0.0, 2)])
    health.look()
    clock.now += 1_000.0
    health.look()
    assert health.live().startswith("get cannot be called")


@pytest.mark.parametrize("is_kafka_there", [True, False])
async def test_a_client_that_hears_nothing_is_death_only_where_kafka_answers_others(is_kafka_there: bool) -> None:
    asked = asyncio.Event()

    async def answers() -> bool:
        asked.set()
        return is_kafka_there

    health = Health({}, Clock(), answers)
    health.phase = ""
    health.read(SilentPool())
    async with watching(health), asyncio.timeout(20):
        await asked.wait()
        await asyncio.sleep(0)
        assert bool(health.live()) is is_kafka_there
        assert health.ready() == "no partition is assigned"


def test_the_log_is_told_of_what_lasts_once_a_minute_and_of_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Told()
    for second in range(200):
        told.tell("", f"Kafka has not answered for {second} s", float(second))
    for second in range(200, 300):
        told.tell("", "", float(second))
    assert caplog.messages == [
        "not ready: Kafka has not answered for 5 s",
        "not ready: Kafka has not answered for 65 s",
        "not ready: Kafka has not answered for 125 s",
        "not ready: Kafka has not answered for 185 s",
        "ready again, after 200 s",
    ]


def test_what_is_over_at_once_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Told()
    for second in range(300):
        told.tell("", "no partition is assigned" if second % 5 < 4 else "", float(second))
    assert caplog.messages == []


def test_death_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    for now in (0.0, 10.0):
        told.tell("its relay has ended", "", now)
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("ERROR", "not alive, it should be restarted: its relay has ended")
    ]
