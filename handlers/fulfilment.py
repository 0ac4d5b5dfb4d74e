"""An order that was placed is checked, paid, taken from stock and confirmed."""

from handlers.letter import Letter, compose
from handlers.order_placed import OrderPlaced, quantities
from handlers.payments import Declined
from handlers.services import Services
from handlers.stores.orders import Order
from handlers.stores.processed import Refused, delivery
from handlers.stores.stock import missing
from streamproc import Context, Leg, LegContext, Parallel, Reject, RetryLater, Workflow
from streamproc.errors import MailRefused

CONFIRMATION = Letter("Your order {order}", ("Dear {name},", "we have your order {order}, and {amount} for it."))


async def validate(event: OrderPlaced, leg: LegContext[Services]) -> Reject | None:
    """Stores the order where it was not placed over the API; leaves what it costs, in cents."""
    order, services = _order(event, leg), leg.services
    if await services.users.find(event.user_id) is None:
        return Reject("unknown_user")
    prices = await services.stock.prices(order.quantities)
    for sku, quantity in order.quantities.items():
        if sku not in prices:
            return missing(sku, quantity, None).outcome
    leg.result = str(sum(prices[sku] * quantity for sku, quantity in order.quantities.items()))
    this = delivery(event, leg.ctx, function="fulfil_order")
    try:
        await services.orders.accept(order, this, leg.record())
    except Refused as refused:
        return refused.outcome
    return None


async def charge(event: OrderPlaced, leg: LegContext[Services]) -> Reject | None:
    """Charges the card, once for the order."""
    try:
        await leg.services.payments.charge(leg.key, event.card, int(leg.results["validate"]))
    except Declined as declined:
        return Reject("payment_declined", str(declined))
    return None


async def refund(_event: OrderPlaced, leg: LegContext[Services]) -> None:
    """Gives the money back."""
    await leg.services.payments.refund(leg.key)


async def take_stock(event: OrderPlaced, leg: LegContext[Services]) -> Reject | None:
    """Takes all items from stock, or none."""
    try:
        await leg.services.stock.take(_order(event, leg), leg.record(), leg.now)
    except Refused as refused:
        return refused.outcome
    return None


async def give_back(event: OrderPlaced, leg: LegContext[Services]) -> None:
    """Puts the items back into stock."""
    await leg.services.stock.give_back(_order(event, leg), leg.record())


async def confirm(event: OrderPlaced, leg: LegContext[Services]) -> Reject | None:
    """Tells the user by mail; after a crash before the leg is recorded, the same message is sent again."""
    services = leg.services
    user = await services.users.find(event.user_id)
    if user is None:
        return Reject("unknown_user")
    values = {"name": user.name, "order": event.order_id, "amount": f"{int(leg.results['validate']) / 100:.2f}"}
    this = delivery(event, leg.ctx, function="fulfil_order")
    try:
        await services.mailer.send(compose(CONFIRMATION, values, this, to=user.email, date=leg.ctx.record_time))
    except Refused as refused:
        return refused.outcome
    except MailRefused as refused:
        return Reject("mail_refused", str(refused))
    return None


FULFIL = Workflow(
    "order",
    Leg("validate", validate),
    Parallel(Leg("payment", charge, undo=refund, timeout_s=5), Leg("inventory", take_stock, undo=give_back)),
    Leg("confirmation", confirm, max_attempts=-1),
)


async def fulfil_order(event: OrderPlaced, ctx: Context[Services]) -> Reject | RetryLater | None:
    """Carries out what is not done yet of an order."""
    return await FULFIL.run(event, ctx, subject=event.order_id, journal=ctx.services.journal)


def _order(event: OrderPlaced, leg: LegContext[Services]) -> Order:
    return Order(event.order_id, event.user_id, quantities(event.items), leg.ctx.record_time)
