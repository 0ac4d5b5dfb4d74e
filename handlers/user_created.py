"""`user.created`: welcomes the user by mail."""

from typing import Annotated

from msgspec import Meta

from handlers.letter import Letter
from handlers.mailing import mail_once
from handlers.services import Services
from streamproc import Context, Event, Reject

WELCOME = Letter("Welcome, {name}", ("Dear {name},", "welcome to the shop."))


class UserCreated(Event, tag="user.created"):
    """A user has signed up."""

    user_id: Annotated[str, Meta(min_length=1, max_length=200)]


async def send_welcome_email(event: UserCreated, ctx: Context[Services]) -> Reject | None:
    """Welcomes the user, once per event id."""
    user = await ctx.services.users.find(event.user_id)
    if user is None:
        return Reject("unknown_user")
    return await mail_once(WELCOME, {"name": user.name}, ctx, event=event, to=user.email)
