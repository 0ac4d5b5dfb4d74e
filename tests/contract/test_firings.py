"""The times at which schedules were due, in each kind of database: one claim, its event with it, and what follows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from handlers.stores.opening import open_stores
from streamproc.adapters.memory_firings import MemoryFirings
from streamproc.ports import Firings
from streamproc.rows import Firing
from tests.contract.stores import EVENT, LATER, NOON, Store, World, sqlite_world
from tests.postgres import Shop

DAY = timedelta(days=1)
ROWS = "SELECT schedule, fire_at, state, lease_until, ended_at FROM firings ORDER BY schedule, fire_at"
WAITING = "SELECT count(*) FROM outbox"


def firing(fire_at: datetime = NOON, state: Any = "due", schedule: str = "daily", **more: Any) -> Firing:
    return Firing(schedule, fire_at, state, more.pop("lease_until", LATER), **more)


def row(one: Firing) -> tuple[object, ...]:
    ended = one.ended_at and one.ended_at.timestamp()
    return one.schedule, one.fire_at.timestamp(), one.state, one.lease_until.timestamp(), ended


@pytest.fixture(params=["sqlite", "postgres", "memory"])
async def firings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Firings]:
    """Those of each kind of database, and those that tests of functions use."""
    if request.param == "memory":
        yield MemoryFirings()
        return
    options = sqlite_world(tmp_path).options
    if request.param == "postgres":
        shop: Shop = request.getfixturevalue("postgres_shop")
        await shop.empty()
        options = shop.app
    async with open_stores(options) as stores:
        yield stores.firings


async def test_a_firing_and_its_event_are_written_together_and_once(store: Store) -> None:
    firings = store.stores.firings
    assert await firings.claim(firing(), EVENT)
    assert not await firings.claim(firing(state="skipped", lease_until=NOON), EVENT)
    assert not await firings.claim(firing(), None)
    assert await store.query(ROWS) == [row(firing())]
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        assert [record for _, record in await waiting.take(9)] == [EVENT]


@pytest.mark.parametrize("state", ["since", "skipped", "missed"])
async def test_a_firing_without_an_event_writes_none(store: Store, state: str) -> None:
    assert await store.stores.firings.claim(firing(state=state), None)
    assert await store.query(ROWS) == [row(firing(state=state))]
    assert await store.query(WAITING) == [(0,)]


async def test_of_many_who_claim_a_time_at_once_one_has_it(store: Store, world: World) -> None:
    async with open_stores(world.options) as others:
        claims = [one.claim(firing(), EVENT) for one in (store.stores.firings, others.firings) for _ in range(20)]
        assert sorted(await asyncio.gather(*claims)) == [False] * 39 + [True]
    assert await store.query(WAITING) == [(1,)]


async def test_a_claim_that_fails_writes_neither(store: Store) -> None:
    broken = replace(EVENT, topic=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        await store.stores.firings.claim(firing(), broken)
    assert await store.query(ROWS) == []
    assert await store.stores.firings.claim(firing(), EVENT)


async def test_the_latest_of_each_schedule_is_found(firings: Firings) -> None:
    assert dict(await firings.last()) == {}
    latest = {
        "daily": firing(LATER, "skipped"),
        "a.b_c-1": firing(NOON, "since", "a.b_c-1"),
        "z" * 100: firing(LATER + DAY, schedule="z" * 100),
    }
    for one in (firing(), *latest.values(), firing(NOON - DAY, "missed"), firing(LATER, schedule="z" * 100)):
        assert await firings.claim(one, None)
    assert dict(await firings.last()) == latest


@pytest.mark.parametrize("state", get_args(Firing.__annotations__["state"]))
async def test_a_firing_moves_until_it_is_done_or_failed(firings: Firings, state: Any) -> None:
    before = firing(state=state)
    after = firing(state="running", lease_until=LATER + DAY, ended_at=LATER)
    assert await firings.claim(before, None)
    assert await firings.claim(firing(LATER), None)
    stored = before if state in ("done", "failed") else after
    assert await firings.move(after) == stored
    assert await firings.move(replace(stored, lease_until=LATER)) in (stored, replace(stored, lease_until=LATER))
    assert dict(await firings.last()) == {"daily": firing(LATER)}


async def test_what_was_never_claimed_does_not_move(firings: Firings) -> None:
    assert await firings.claim(firing(LATER), None)
    assert await firings.move(firing(state="running")) is None
    assert await firings.move(firing(LATER, "running", "other")) is None
    assert dict(await firings.last()) == {"daily": firing(LATER)}


@pytest.mark.parametrize(
    ("one", "is_running"),
    [
        (firing(state="due"), True),
        (firing(state="running"), True),
        (firing(state="done"), False),
        (firing(state="failed"), False),
        (firing(state="skipped"), False),
        (firing(state="missed"), False),
        (firing(state="since"), False),
        (firing(lease_until=LATER - timedelta(minutes=1)), False),
        (firing(LATER - timedelta(minutes=1)), False),
        (firing(schedule="other"), False),
    ],
)
async def test_a_schedule_is_running_while_an_earlier_firing_holds_a_lease(
    firings: Firings, one: Firing, is_running: bool
) -> None:
    assert await firings.claim(one, None)
    assert await firings.running("daily", LATER - timedelta(minutes=1)) is is_running


async def test_what_is_90_days_older_is_forgotten_and_counts_as_had(store: Store) -> None:
    firings = store.stores.firings
    old = [firing(NOON - n * DAY, "done") for n in (92, 91, 90, 89)]
    for one in [*old, firing(NOON - 92 * DAY, schedule="other")]:
        assert await firings.claim(one, None)
    assert await firings.claim(firing(), EVENT)
    kept = [old[2], old[3], firing(), firing(NOON - 92 * DAY, schedule="other")]
    assert await store.query(ROWS) == [row(one) for one in kept]
    assert not await firings.claim(old[0], EVENT)
    assert not await firings.claim(firing(NOON - 91 * DAY), EVENT)
    assert await firings.claim(firing(NOON - 88 * DAY), EVENT)
    assert await store.query(WAITING) == [(2,)]


async def test_the_latest_are_found_among_very_many(store: Store) -> None:
    firings = store.stores.firings
    minutes = [NOON - timedelta(minutes=n) for n in range(900)]
    await asyncio.gather(*(firings.claim(firing(at, "done", f"s-{n % 30}"), None) for n, at in enumerate(minutes)))
    assert dict(await firings.last()) == {f"s-{n}": firing(minutes[n], "done", f"s-{n}") for n in range(30)}
