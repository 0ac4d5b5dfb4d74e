"""`user.created`: welcomes the user by mail."""

from typing import Annotated

from msgspec import Meta

from handlers.letter import Letter, compose
from handlers.services import Services
from handlers.stores.processed import Refused, delivery
from streamproc import Context, Event, Reject
from streamproc.errors import MailRefused

WELCOME = Letter("Welcome, {name}", ("Dear {name},", "welcome to the shop."))


class UserCreated(Event, tag="user.created"):
    """A user has signed up."""

    user_id: Annotated[str, Meta(min_length=1, max_length=200)]


async def send_welcome_email(event: UserCreated, ctx: Context[Services]) -> Reject | None:
    """Welcomes the user once per event id; after a crash before the record, the same message is sent again."""
    this = delivery(event, ctx, function="send_welcome_email")
    services = ctx.services
    try:
        user = await services.users.find(event.user_id)
        if user is None:
            return Reject("unknown_user")
        mail = compose(WELCOME, {"name": user.name}, this, to=user.email, date=ctx.record_time)
        if await services.processed.claim(this):
            await services.mailer.send(mail)
            await services.processed.record(this)
    except Refused as refused:
        return refused.outcome
    except MailRefused as refused:
        return Reject("mail_refused", str(refused))
    return None
