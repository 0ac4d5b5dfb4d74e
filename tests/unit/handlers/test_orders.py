"""`/orders`, through the gateway onto the real store: placing, following, and what an order cannot be."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from handlers.app import app
from handlers.fulfilment import fulfil_order
from handlers.order_placed import OrderPlaced
from handlers.orders import view
from handlers.payments import DECLINED
from handlers.seed import seed
from handlers.services import Services
from handlers.stores.orders import StoredOrder
from streamproc import App, Stream, testing
from streamproc.stream.options import StreamOptions
from tests.contract.stores import LATER, NOON, leg
from tests.unit.handlers.conftest import Query
from tests.unit.http.rig import Rig

ALL = ("orders:write", "orders:read")
ONE = {"userId": "u-0", "items": [{"sku": "sku-0", "quantity": 2}]}


@pytest.fixture
async def made(tmp_path: Path, services: Services) -> Rig:
    await seed(services, users=2, skus=3, quantity=10)
    return Rig(tmp_path, *app.http_functions, services=services, stream=StreamOptions(format="json"))


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[httpx2.AsyncClient]:
    async with made.client(*ALL) as client:
        yield client


async def test_an_order_is_placed_and_its_event_waits(client: httpx2.AsyncClient, made: Rig, query: Query) -> None:
    placed = await client.post("/orders", json=ONE)
    order = placed.json()
    assert placed.status_code == 201
    assert order == ONE | {
        "id": order["id"],
        "status": "placed",
        "reason": "",
        "placedAt": order["placedAt"],
        "legs": [],
    }
    assert (await client.get(placed.headers["location"])).json() == order
    [(key, value)] = query("SELECT key, value FROM outbox")
    event = msgspec.json.decode(value, type=OrderPlaced)
    assert (key.decode(), event.order_id, event.user_id) == (order["id"], order["id"], "u-0")
    assert made.stored == 1


async def fulfilled(client: httpx2.AsyncClient, services: Services, query: Query, order: Any) -> Any:
    """What is told of an order when its event was handled."""
    location = (await client.post("/orders", json=order)).headers["location"]
    [(value,)] = query("SELECT value FROM outbox")
    stream = App(functions=[Stream(OrderPlaced, fulfil_order, key="order_id")])
    await testing.run(stream, [msgspec.json.decode(value, type=OrderPlaced)], services=services)
    return (await client.get(location)).json()


async def test_it_is_confirmed_when_all_its_legs_are_done(
    client: httpx2.AsyncClient, services: Services, query: Query
) -> None:
    order = await fulfilled(client, services, query, ONE)
    assert (order["status"], order["reason"]) == ("confirmed", "")
    assert [leg["name"] for leg in order["legs"]] == ["validate", "payment", "inventory", "confirmation"]
    for one in order["legs"]:
        assert (one["status"], one["reason"], one["attempts"]) == ("done", "", 1)
        assert one["startedAt"] <= one["endedAt"]


async def test_it_is_cancelled_with_the_reason_of_the_leg_that_refused(
    client: httpx2.AsyncClient, services: Services, query: Query
) -> None:
    order = await fulfilled(client, services, query, ONE | {"card": DECLINED})
    assert (order["status"], order["reason"]) == ("cancelled", "payment_declined")
    legs = {leg["name"]: (leg["status"], leg["reason"]) for leg in order["legs"]}
    assert legs == {
        "validate": ("done", ""),
        "payment": ("rejected", "payment_declined"),
        "inventory": ("undone", "payment_declined"),
    }


def test_of_two_legs_that_refused_it_gives_the_reason_of_the_first() -> None:
    payment, inventory = (replace(leg(name, "rejected"), result=name) for name in ("payment", "inventory"))
    slow = replace(payment, started_at=NOON - timedelta(seconds=5), ended_at=LATER + timedelta(seconds=1))
    shown = view(StoredOrder("o-1", "u-1", {}, NOON, None), [slow, inventory])
    assert (shown.status, shown.reason) == ("cancelled", "inventory")


async def test_items_of_one_sku_are_added_up_and_shown_in_the_order_of_skus(client: httpx2.AsyncClient) -> None:
    items = [{"sku": "b", "quantity": 1}, {"sku": "a", "quantity": 10**9}, {"sku": "b", "quantity": 10**9}]
    order = (await client.post("/orders", json=ONE | {"items": items})).json()
    assert order["items"] == [{"sku": "a", "quantity": 10**9}, {"sku": "b", "quantity": 10**9 + 1}]


async def test_a_thousand_items_of_the_largest_quantity_fit(client: httpx2.AsyncClient) -> None:
    items = [{"sku": "a", "quantity": 10**9}] * 1_000
    order = (await client.post("/orders", json=ONE | {"items": items})).json()
    assert (await client.get(f"/orders/{order['id']}")).json()["items"] == [{"sku": "a", "quantity": 10**12}]


async def test_a_repeat_with_its_key_finds_the_first(client: httpx2.AsyncClient, query: Query) -> None:
    headers = {"idempotency-key": "k"}
    answers = [await client.post("/orders", json=ONE, headers=headers) for _ in range(3)]
    split = ONE | {"items": [{"sku": "sku-0", "quantity": 1}] * 2}
    answers.append(await client.post("/orders", json=split, headers=headers))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    for change in ({"userId": "u-1"}, {"items": [{"sku": "sku-0", "quantity": 3}]}):
        answer = await client.post("/orders", json=ONE | change, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (
            422,
            "This Idempotency-Key was used for another request",
        )
    assert query("SELECT count(*) FROM orders") == query("SELECT count(*) FROM outbox") == [(1,)]


async def test_an_order_of_nobody_is_409(client: httpx2.AsyncClient, query: Query) -> None:
    answer = await client.post("/orders", json=ONE | {"userId": "u-9"})
    assert (answer.status_code, answer.json()) == (409, {"error": "No such user"})
    assert query("SELECT count(*) FROM outbox") == [(0,)]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"items": None}, 400, "UserId and items required"),
        ({"userId": ""}, 400, "UserId and items required"),
        ({"items": []}, 400, {"items": "expected `array` of length >= 1"}),
        ({"items": [{"sku": "a", "quantity": 1}] * 1_001}, 400, {"items": "expected `array` of length <= 1000"}),
        ({"items": [{"sku": "a", "quantity": 0}]}, 400, {"items": "expected `int` >= 1"}),
        ({"items": [{"sku": "a", "quantity": -1}]}, 400, {"items": "expected `int` >= 1"}),
        ({"items": [{"sku": "a", "quantity": 10**9 + 1}]}, 400, {"items": "expected `int` <= 1000000000"}),
        ({"items": [{"sku": "a", "quantity": 10**30}]}, 400, {"items": "expected `int` <= 1000000000"}),
        ({"items": [{"sku": "a", "quantity": 1.5}]}, 400, {"items": "expected `int`, got `float`"}),
        ({"items": [{"sku": "a", "quantity": True}]}, 400, {"items": "expected `int`, got `bool`"}),
        ({"items": [{"sku": "", "quantity": 1}]}, 400, {"items": "expected `str` of length >= 1"}),
        ({"items": [{"sku": "x" * 201, "quantity": 1}]}, 400, {"items": "expected `str` of length <= 200"}),
        ({"items": [{"sku": "a\0", "quantity": 1}]}, 400, {"body": "must not hold the character NUL"}),
        ({"items": {"sku": "a", "quantity": 1}}, 400, {"items": "expected `array`, got `object`"}),
        ({"items": [["a", 1]]}, 400, {"items": "expected `object`, got `array`"}),
        ({"userId": 5, "status": "taken"}, 400, {"userId": "expected `str`, got `int`", "status": "not a known field"}),
    ],
)
async def test_what_is_no_order_is_refused_with_its_fields(
    client: httpx2.AsyncClient, change: dict[str, Any], status: int, told: object, query: Query
) -> None:
    answer = await client.post("/orders", json=ONE | change)
    expected = {"error": told} if isinstance(told, str) else {"error": "Invalid request", "fields": told}
    assert (answer.status_code, answer.json()) == (status, expected)
    assert query("SELECT count(*) FROM orders") == [(0,)]


async def test_an_order_whose_event_no_broker_takes_is_413_and_not_stored(
    tmp_path: Path, services: Services, query: Query
) -> None:
    """Else it would wait in the outbox for ever, and be read again with each look of the relay."""
    await seed(services, users=1, skus=0, quantity=0)
    made = Rig(tmp_path, *app.http_functions, services=services)
    skus = [f"{n:04}" + "\N{PILE OF POO}" * 196 for n in range(1_000)]
    body = msgspec.json.encode({"userId": "u-0", "items": [{"sku": sku, "quantity": 1} for sku in skus]})
    assert len(body) < 1_048_576
    async with made.client(*ALL) as client:
        answer = await client.post("/orders", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (413, {"error": "The event is larger than 1048576 bytes"})
    assert query("SELECT count(*) FROM orders") == query("SELECT count(*) FROM outbox") == [(0,)]


@pytest.mark.parametrize("sku", ["' OR 1=1 --", "=1+1", "<b>", "../x", "\\u0000", "\N{PILE OF POO}" * 200, "a\nb"])
async def test_skus_are_kept_as_they_are(client: httpx2.AsyncClient, sku: str) -> None:
    items = [{"sku": sku, "quantity": 1}]
    placed = await client.post("/orders", json=ONE | {"items": items})
    assert (placed.status_code, placed.json()["items"]) == (201, items)


@pytest.mark.parametrize(("id", "status"), [("nope", 404), ("x" * 200, 404), ("x" * 201, 400), ("%00", 400)])
async def test_an_order_nobody_placed_is_not_found(client: httpx2.AsyncClient, id: str, status: int) -> None:
    assert (await client.get(f"/orders/{id}")).status_code == status


async def test_each_route_asks_for_its_scope(made: Rig) -> None:
    async with made.client("orders:read") as reader, made.client("orders:write") as writer:
        assert (await reader.post("/orders", json=ONE)).status_code == 403
        assert (await writer.get("/orders/x")).status_code == 403
