"""`order.placed`: takes the ordered items from stock."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from handlers.services import Services
from handlers.stores.orders import Order
from handlers.stores.processed import Refused, delivery
from streamproc import Context, Event, Reject

Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Item(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """So many of a sku; the limit keeps the sum of an order within what a database can count."""

    sku: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000_000_000)]


class OrderPlaced(Event, tag="order.placed"):
    """A user has ordered something."""

    order_id: Id
    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]


def quantities(items: Iterable[Item]) -> Counter[str]:
    """How many of each sku, over all items."""
    total: Counter[str] = Counter()
    for item in items:
        total[item.sku] += item.quantity
    return total


async def take_stock(event: OrderPlaced, ctx: Context[Services]) -> Reject | None:
    """Takes the stock of all items or of none, once per event id."""
    order = Order(event.order_id, event.user_id, quantities(event.items), ctx.record_time)
    try:
        await ctx.services.stock.take(order, delivery(event, ctx, function="take_stock"), ctx.now)
    except Refused as refused:
        return refused.outcome
    return None
