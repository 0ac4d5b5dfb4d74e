"""What an order cannot be."""

from typing import Any

import msgspec
import pytest

from handlers.order_placed import OrderPlaced

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
        {"card": "4" * 101},
        {"items": [{"sku": "a", "quantity": -1}]},
        {"items": [{"sku": "a"}] * 1_000_000},
        {"userId": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_order_outside_of_its_limits_is_no_order(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"type": "order.placed", "orderId": "o-1", "userId": "u-1", "items": [ITEM] * 1_000}
    msgspec.convert(fields, OrderPlaced)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields | change, OrderPlaced)
