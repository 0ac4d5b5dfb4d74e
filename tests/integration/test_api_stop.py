"""SIGTERM while requests run: each that began is answered, and none holds the process longer than its grace."""

import asyncio
import time
from collections.abc import Awaitable

import httpx2
import pytest

from tests.contract.mail_server import MailServer
from tests.integration.api import Crowd, World, on_sqlite, received, sign_up
from tests.integration.harness import calls, until, until_true
from tests.integration.held_app import SLOW

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]
APP = "tests.integration.held_app:app"
GRACE_S = 10.0


async def test_a_service_that_ends_under_load_breaks_no_request_and_repeats_no_effect(
    world: World, mails: MailServer
) -> None:
    with world.start(app=APP, stream__grace_s=GRACE_S) as first, world.start(app=APP) as second:
        await first.ready()
        await second.ready()
        one, other = world.client(await first.listening()), world.client(await second.listening())
        async with one, other, asyncio.TaskGroup() as group:
            crowd = Crowd(one, other)
            for _ in range(8):
                group.create_task(crowd.sign_up_users())
            await until(lambda: len(crowd.acknowledged) > 100, "users sign up")
            told = time.monotonic()
            assert await first.stop() == 0
            assert time.monotonic() - told < GRACE_S
            before = len(crowd.acknowledged)
            await until(lambda: len(crowd.acknowledged) > before + 50, "users sign up elsewhere")
            crowd.stop.set()
        await until_true(world.is_done, "all are welcomed")
        assert await second.stop() == 0
    begun = calls(first.effects)
    assert {call.key for call in begun}.isdisjoint(crowd.broken)
    assert all(call.ended for call in begun)
    assert {call.pid for call in begun} == {first.pid, second.pid}
    assert crowd.statuses.keys() == {201}
    rows = await world.query("SELECT name, user_id FROM users WHERE user_id <> 'u-0'")
    assert dict(rows) == crowd.acknowledged
    assert sorted(await world.events()) == sorted(crowd.acknowledged.values())
    welcomed = sorted(recipient for recipient, _ in received(mails).elements())
    assert welcomed == sorted(f"{name}@example.com" for name in crowd.acknowledged)
    assert await world.letters() == []


async def test_a_request_that_began_is_answered_and_its_event_published(world: World) -> None:
    with world.start(app=APP, only="http") as service:
        async with world.client(await service.listening()) as client, asyncio.TaskGroup() as group:
            asked = group.create_task(sign_up(client, SLOW))
            await until(lambda: bool(calls(service.effects)), "the call runs")
            assert await service.stop() == 0
    assert await world.query("SELECT count(*) FROM outbox") == [(0,)]
    assert await world.events() == [asked.result()]


@on_sqlite
@pytest.mark.parametrize("path", ["/hold", "/hold-thread"])
async def test_a_request_that_hangs_is_cut_at_the_grace(world: World, path: str) -> None:
    grace_s = 2.0
    with world.start(app=APP, only="http", stream__grace_s=grace_s) as service:
        async with world.client(await service.listening()) as client, asyncio.TaskGroup() as group:
            asked = group.create_task(status_of(client.get(path, params={"seconds": 3_600})))
            await until(lambda: bool(calls(service.effects)), "the call runs")
            told = time.monotonic()
            assert await service.stop() == 4
            assert grace_s <= time.monotonic() - told < grace_s + 2
        assert asked.result() == 0


@on_sqlite
async def test_an_idle_service_ends_at_once_also_one_that_stands_by(world: World) -> None:
    with world.start(only="http") as active:
        await active.listening()
        with world.start(only="http") as standing_by:
            await standing_by.listening()
            for service in (standing_by, active):
                told = time.monotonic()
                assert await service.stop() == 0
                assert time.monotonic() - told < 1


async def status_of(asking: Awaitable[httpx2.Response]) -> int:
    """Of the answer, 0 without one."""
    try:
        return (await asking).status_code
    except httpx2.TransportError:
        return 0
