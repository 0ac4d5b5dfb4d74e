"""`/orders`: orders are placed, and followed."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.order_placed import Id, Item, OrderPlaced, quantities
from handlers.services import Services
from handlers.stores.orders import Order, StoredOrder
from streamproc import Answer, Body, Created, HttpContext, Problem


class NewOrder(Body):
    """What a user orders."""

    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]


class ItemView(Answer):
    """So many of a sku, over all items of the order."""

    sku: str
    quantity: int


class OrderView(Answer):
    """An order as callers see it; `status` is `placed` until its stock is taken."""

    id: str
    user_id: str
    items: list[ItemView]
    status: str
    placed_at: datetime
    taken_at: datetime | None


async def place_order(new: NewOrder, ctx: HttpContext[Services]) -> Created[OrderView] | Problem:
    """Stores the order and, in the same transaction, the event that takes its stock."""
    if await ctx.services.users.find(new.user_id) is None:
        return Problem(409, "No such user")
    order = Order(ctx.new_id(), new.user_id, quantities(new.items), ctx.now)
    placed = OrderPlaced(order.order_id, new.user_id, new.items)
    event = ctx.event(placed, key=order.order_id, event_id=order.order_id)
    stored = await ctx.services.orders.place(order, event)
    if (stored.user_id, stored.quantities) != (order.user_id, order.quantities):
        return Problem(422, "This Idempotency-Key was used for another request")
    return Created(view(stored), location=f"/orders/{stored.order_id}")


async def get_order(id: Id, ctx: HttpContext[Services]) -> OrderView | Problem:
    """One order."""
    order = await ctx.services.orders.find(id)
    return Problem(404, "Not found") if order is None else view(order)


def view(order: StoredOrder) -> OrderView:
    """A row as callers see it."""
    return OrderView(
        id=order.order_id,
        user_id=order.user_id,
        items=[ItemView(sku=sku, quantity=quantity) for sku, quantity in sorted(order.quantities.items())],
        status="placed" if order.taken_at is None else "taken",
        placed_at=order.placed_at,
        taken_at=order.taken_at,
    )
