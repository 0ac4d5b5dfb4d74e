"""kill -9 in the workflow of an order: it is confirmed, or all its effects are undone and a dead letter says why."""

from typing import Any

import httpx2
import pytest

from handlers.payments import DECLINED as DECLINED_CARD
from tests.integration.crashes.points import DECLINED, ORDER, SHORT
from tests.integration.crashes.run import Open, Place, at_each

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def fulfilled(place: Place, point: str, quantity: int, card: str = "") -> dict[str, Any]:
    """What becomes of an order of so many: what its user sees, its legs, the ledger, the stock."""

    async def order(client: httpx2.AsyncClient) -> httpx2.Response:
        body = {"userId": "u-0", "items": [{"sku": "sku-0", "quantity": quantity}], "card": card}
        return await client.post("/orders", json=body, headers={"idempotency-key": "an order"})

    async with place.second(point, order) as client:
        [[order_id]] = await place.world.query("SELECT order_id FROM orders")
        seen = (await client.get(f"/orders/{order_id}")).json()
    assert {leg["name"]: leg["status"] for leg in seen["legs"]} == await legs(place)
    return {
        "status": (seen["status"], seen["reason"]),
        "legs": await legs(place),
        "stock": (await place.world.query("SELECT quantity FROM stock WHERE sku = 'sku-0'"))[0][0],
        **await place.end(),
    }


async def legs(place: Place) -> dict[str, str]:
    """The legs with their states; each has one call that ended."""
    rows = await place.world.query("SELECT leg, state, attempts FROM workflow_legs ORDER BY leg")
    assert {attempts for *_, attempts in rows} <= {0, 1}
    return {leg: state for leg, state, _ in rows}


async def payments(place: Place) -> list[tuple[str, int, int]]:
    """The ledger: what became of each charge, of how many cents, and how often it was asked for."""
    return [tuple(row) for row in await place.world.query("SELECT state, amount, requests FROM payments")]


async def test_an_order_is_paid_taken_and_confirmed_once_after_a_kill_at_any_point(opened: Open) -> None:
    async def tried(place: Place, point: str) -> None:
        end = await fulfilled(place, point, 3)
        assert end == {
            "status": ("confirmed", ""),
            "legs": dict.fromkeys(("confirmation", "inventory", "payment", "validate"), "done"),
            "stock": 97,
            "events": 1,
            "letters": [],
            "mails": [2 if point == "confirmation sent, not recorded" else 1],
        }
        [(state, amount, requests)] = await payments(place)
        assert (state, amount) == ("kept", 3_000)
        assert requests in asked(point)

    await at_each(ORDER, opened, tried)


def asked(point: str) -> set[int]:
    """How often the charge may have been asked for; its answer may be under way while the other leg runs."""
    if point in ("before stock is taken", "stock taken, with its leg"):
        return {1, 2}
    return {2} if point == "charged, not recorded" else {1}


async def test_an_order_that_is_short_of_stock_is_refunded_once_after_a_kill_at_any_point(opened: Open) -> None:
    async def tried(place: Place, point: str) -> None:
        assert await fulfilled(place, point, 101) == {
            "status": ("cancelled", "out_of_stock"),
            "legs": {"inventory": "rejected", "payment": "undone", "validate": "done"},
            "stock": 100,
            "events": 1,
            "letters": ["out_of_stock"],
            "mails": [],
        }
        [(state, amount, requests)] = await payments(place)
        assert (state, amount) == ("refunded", 101_000)
        assert requests in ({1, 2} if point == "charged, not recorded" else {1})  # unless the rejection is read first

    await at_each(SHORT, opened, tried)


async def test_the_stock_of_a_declined_order_is_given_back_once_after_a_kill_at_any_point(opened: Open) -> None:
    async def tried(place: Place, point: str) -> None:
        assert await fulfilled(place, point, 3, card=DECLINED_CARD) == {
            "status": ("cancelled", "payment_declined"),
            "legs": {"inventory": "undone", "payment": "rejected", "validate": "done"},
            "stock": 100,
            "events": 1,
            "letters": ["payment_declined"],
            "mails": [],
        }
        assert await payments(place) == []

    await at_each(DECLINED, opened, tried)
