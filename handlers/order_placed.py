"""`order.placed`: takes the stock."""

from collections import Counter
from typing import Annotated

import msgspec
from msgspec import Meta

from handlers.services import Services
from handlers.stores.stock import Order, ShortStock
from streamproc import Context, Event, Reject

Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Item(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """So many pieces of a sku."""

    sku: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]


class OrderPlaced(Event, tag="order.placed"):
    """Somebody has ordered something."""

    order_id: Id
    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]


async def take_stock(event: OrderPlaced, ctx: Context[Services]) -> Reject | None:
    """Takes the stock of all items or of none, once per event id."""
    quantities: Counter[str] = Counter()
    for item in event.items:
        quantities[item.sku] += item.quantity
    order = Order(event.order_id, event.user_id, ctx.event_id, quantities, ctx.now.timestamp())
    try:
        seen = await ctx.services.stock.take(order, f"take_stock/{ctx.topic}", event=event)
    except ShortStock as short:
        if short.there < 0:
            return Reject("unknown_sku", short.sku)
        return Reject("out_of_stock", f"of {short.sku} there are {short.there}, {quantities[short.sku]} were ordered")
    if seen == "conflict":
        return Reject("conflict", "this event id came before with another content")
    return None
