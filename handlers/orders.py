"""`/orders`: orders are placed, and followed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.fulfilment import FULFIL
from handlers.order_placed import Card, Id, Item, OrderPlaced, quantities
from handlers.services import Services
from handlers.stores.orders import Order, StoredOrder
from streamproc import Answer, Body, Created, HttpContext, Problem
from streamproc.rows import LegRecord


class NewOrder(Body):
    """What a user orders."""

    user_id: Id
    items: Annotated[list[Item], Meta(min_length=1, max_length=1_000)]
    card: Card = ""


class ItemView(Answer):
    """So many of a sku, over all items of the order."""

    sku: str
    quantity: int


class LegView(Answer):
    """A step of an order: `status` is `done`, `failed` (to be tried again), `rejected` or `undone`."""

    name: str
    status: str
    reason: str
    attempts: int
    started_at: datetime
    ended_at: datetime


class OrderView(Answer):
    """An order as callers see it: `placed`, then `confirmed`, or `cancelled`; `reason` says why."""

    id: str
    user_id: str
    items: list[ItemView]
    status: str
    reason: str
    placed_at: datetime
    legs: list[LegView]


async def place_order(new: NewOrder, ctx: HttpContext[Services]) -> Created[OrderView] | Problem:
    """Stores the order and, in the same transaction, the event that sets off its fulfilment."""
    if await ctx.services.users.find(new.user_id) is None:
        return Problem(409, "No such user")
    order = Order(ctx.new_id(), new.user_id, quantities(new.items), ctx.now)
    placed = OrderPlaced(order.order_id, new.user_id, new.items, new.card)
    event = ctx.event(placed, key=order.order_id, event_id=order.order_id)
    stored = await ctx.services.orders.place(order, event)
    if (stored.user_id, stored.quantities) != (order.user_id, order.quantities):
        return Problem(422, "This Idempotency-Key was used for another request")
    return Created(view(stored, ()), location=f"/orders/{stored.order_id}")


async def get_order(id: Id, ctx: HttpContext[Services]) -> OrderView | Problem:
    """One order, with what became of its steps so far."""
    order = await ctx.services.orders.find(id)
    if order is None:
        return Problem(404, "Not found")
    return view(order, await ctx.services.journal.read(FULFIL.run_id(id)))


def view(order: StoredOrder, legs: Sequence[LegRecord]) -> OrderView:
    """A row as callers see it."""
    names = [leg.name for leg in FULFIL.legs]
    why = FULFIL.refusal(legs)
    done = {leg.leg for leg in legs if leg.state == "done"}
    return OrderView(
        id=order.order_id,
        user_id=order.user_id,
        items=[ItemView(sku=sku, quantity=quantity) for sku, quantity in sorted(order.quantities.items())],
        status="cancelled" if why else "confirmed" if done.issuperset(names) else "placed",
        reason=why.reason if why else "",
        placed_at=order.placed_at,
        legs=[_leg(leg) for leg in sorted(legs, key=lambda leg: names.index(leg.leg))],
    )


def _leg(leg: LegRecord) -> LegView:
    return LegView(
        name=leg.leg,
        status=leg.state,
        reason="" if leg.state == "done" else leg.result,
        attempts=leg.attempts,
        started_at=leg.started_at,
        ended_at=leg.ended_at,
    )
