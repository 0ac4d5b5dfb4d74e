"""The legs of workflows and the ledger of payments, whatever database is behind them."""

import asyncio
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from streamproc.rows import LegRecord, LegState
from tests.contract.stores import LATER, NOON, OTHER, Store, leg

STATES: tuple[LegState, ...] = get_args(LegState)


async def test_a_leg_comes_back_as_it_was_written(store: Store) -> None:
    whole = LegRecord("order/o-'1 ☃", "payment", bytes(range(16)), "failed", 3, NOON, LATER, "res'ult", "de\ntail")
    assert await store.stores.journal.write(whole)
    assert list(await store.stores.journal.read(whole.run_id)) == [whole]
    assert list(await store.stores.journal.read("order/o-2")) == []
    assert list(await store.stores.journal.read("\0")) == []


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
async def test_what_ended_stays_but_what_is_done_may_be_undone(store: Store, before: LegState, after: LegState) -> None:
    first, second = leg(state=before), replace(leg(state=after, attempts=2), started_at=LATER, result="r", detail="")
    assert await store.stores.journal.write(first)
    is_news = before == "failed" or (before, after) == ("done", "undone")
    assert await store.stores.journal.write(second) == is_news
    assert list(await store.stores.journal.read(first.run_id)) == [second if is_news else first]


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
async def test_of_calls_at_once_the_first_that_ends_counts(store: Store, attempts: int, after: LegState) -> None:
    assert await store.stores.journal.write(leg(state="failed", attempts=3))
    is_news = attempts > 3 or after == "undone"
    assert await store.stores.journal.write(leg(state=after, attempts=attempts)) == is_news
    [found] = await store.stores.journal.read("order/o-1")
    assert (found.state, found.attempts) == ((after, attempts) if is_news else ("failed", 3))


@pytest.mark.parametrize("before", STATES)
async def test_a_leg_of_other_content_changes_nothing(store: Store, before: LegState) -> None:
    await store.stores.journal.write(leg(state=before))
    assert not await store.stores.journal.write(leg(state="undone", fingerprint=OTHER))
    assert list(await store.stores.journal.read("order/o-1")) == [leg(state=before)]


async def test_one_of_many_at_once_ends_a_leg(store: Store) -> None:
    legs = [leg(state="rejected", attempts=n) for n in range(20)]
    news = await asyncio.gather(*map(store.stores.journal.write, legs))
    assert news.count(True) == 1
    assert list(await store.stores.journal.read("order/o-1")) == [legs[news.index(True)]]


async def test_legs_come_in_the_order_in_which_they_began(store: Store) -> None:
    for name, started_at in (("a", LATER), ("b", NOON), ("c", NOON)):
        await store.stores.journal.write(replace(leg(name), started_at=started_at))
    assert [one.leg for one in await store.stores.journal.read("order/o-1")] == ["b", "c", "a"]


LEDGER = "SELECT key, amount, state, requests FROM payments"


async def test_a_charge_is_kept_once_whatever_the_number_of_requests(store: Store) -> None:
    charges = await asyncio.gather(*(store.stores.ledger.charge("k", 10**15) for _ in range(20)))
    assert {charge.state for charge in charges} == {"kept"}
    assert max(charge.requests for charge in charges) == 20
    assert await store.query(LEDGER) == [("k", 10**15, "kept", 20)]


async def test_a_refund_gives_back_what_was_charged_once(store: Store) -> None:
    await store.stores.ledger.charge("k", 5)
    for _ in range(2):
        await store.stores.ledger.refund("k")
    assert await store.stores.ledger.charge("k", 5) == ("refunded", 2)
    assert await store.query(LEDGER) == [("k", 5, "refunded", 2)]


async def test_a_charge_after_its_refund_is_void(store: Store) -> None:
    await store.stores.ledger.refund("k")
    assert await store.stores.ledger.charge("k", 5) == ("void", 1)
    assert await store.query(LEDGER) == [("k", 0, "void", 1)]
