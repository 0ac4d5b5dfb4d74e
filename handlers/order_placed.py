"""`order.placed`: what a user ordered."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc import Event

Id = Annotated[str, Meta(min_length=1, max_length=200)]
Card = Annotated[str, Meta(max_length=100, description="what the payment provider knows the card by; empty: on file")]


class Item(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """So many of a sku; the limit keeps the sum of an order within what a database can count."""

    sku: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000_000_000)]


class OrderPlaced(Event, tag="order.placed"):
    """A user has ordered something."""

    order_id: Id
    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]
    card: Card = ""


def quantities(items: Iterable[Item]) -> Counter[str]:
    """How many of each sku, over all items."""
    total: Counter[str] = Counter()
    for item in items:
        total[item.sku] += item.quantity
    return total
