"""Orders through the whole pipeline, into a real database."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from handlers.app import app
from handlers.order_placed import Item, OrderPlaced
from handlers.services import Services
from streamproc import testing
from streamproc.model import OutRecord

Record = Callable[[OrderPlaced, str], OutRecord]
Query = Callable[[str], list[Any]]


def order(*items: tuple[str, int], order_id: str = "o-1") -> OrderPlaced:
    return OrderPlaced(order_id, "u-1", [Item(sku, quantity) for sku, quantity in items])


async def place(services: Services, *records: Any) -> testing.Result:
    await services.stock.add({"a": 10, "b": 10})
    return await testing.run(app, records, services=services)


async def test_stock_is_taken_once_per_event(services: Services, record: Record, query: Query) -> None:
    first, second = order(("a", 2), ("b", 1)), order(("a", 1), order_id="o-2")
    result = await place(services, record(first, "e-1"), record(first, "e-1"), record(second, "e-2"))
    assert result.count("ok") == 3
    assert query("SELECT sku, quantity FROM stock ORDER BY sku") == [("a", 7), ("b", 9)]
    assert query("SELECT scope, event_id, deliveries FROM processed ORDER BY event_id") == [
        ("take_stock/events", "e-1", 2),
        ("take_stock/events", "e-2", 1),
    ]


async def test_the_same_sku_twice_counts_as_the_sum(services: Services, query: Query) -> None:
    result = await place(services, order(("a", 6), ("a", 5)), order(("a", 6), ("a", 4), order_id="o-2"))
    assert result.dead_letters == [testing.DeadLetter("out_of_stock", "test-0")]
    assert query("SELECT order_id, sku, quantity FROM orders JOIN order_items USING (order_id)") == [("o-2", "a", 10)]


async def test_short_stock_is_a_dead_letter_and_takes_nothing(services: Services, query: Query) -> None:
    result = await place(services, order(("a", 1), ("b", 11)))
    assert result.dead_letters == [testing.DeadLetter("out_of_stock", "test-0")]
    assert result.dead_letters[0].message == "sku 'b': 11 ordered, 10 left"
    assert query("SELECT quantity FROM stock") == [(10,), (10,)]


async def test_an_unknown_sku_is_a_dead_letter(services: Services) -> None:
    result = await place(services, order(("a", 1), ("z", 1)))
    assert result.dead_letters == [testing.DeadLetter("unknown_sku", "test-0")]


async def test_another_order_of_the_same_event_id_is_a_dead_letter(
    services: Services, record: Record, query: Query
) -> None:
    result = await place(services, record(order(("a", 1)), "e-1"), record(order(("a", 2)), "e-1"))
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert query("SELECT quantity FROM stock WHERE sku = 'a'") == [(9,)]


async def test_many_orders_of_one_sku_add_up(services: Services, query: Query) -> None:
    await services.stock.add({"many": 300})
    result = await place(services, *(order(("many", 1), order_id=f"o-{n}") for n in range(400)))
    assert (result.count("ok"), result.count("dead_lettered")) == (300, 100)
    assert query("SELECT quantity FROM stock WHERE sku = 'many'") == [(0,)]
    assert query("SELECT sum(quantity) FROM order_items") == [(300,)]


ITEM = {"sku": "a", "quantity": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"items": []},
        {"items": [ITEM] * 1_001},
        {"items": [{"sku": "a", "quantity": 0}]},
        {"items": [{"sku": "a", "quantity": 10**18}]},
        {"items": [{"sku": "", "quantity": 1}]},
        {"orderId": ""},
        {"orderId": "o" * 201},
        {"userId": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_order_outside_of_its_limits_is_no_order(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"type": "order.placed", "orderId": "o-1", "userId": "u-1", "items": [ITEM] * 1_000}
    msgspec.convert(fields, OrderPlaced)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields | change, OrderPlaced)
