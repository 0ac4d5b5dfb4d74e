"""`user.created`: a welcome by mail."""

import hashlib
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Annotated

from msgspec import Meta

from handlers.services import Services
from handlers.stores.users import User
from streamproc import Context, Event, Reject

SENDER = Address("The shop", "hello", "shop.example")
EVENT_ID = "X-Event-Id"


class UserCreated(Event, tag="user.created"):
    """Somebody has signed up."""

    user_id: Annotated[str, Meta(min_length=1, max_length=200)]


async def send_welcome_email(event: UserCreated, ctx: Context[Services]) -> Reject | None:
    """Welcomes the user once per event id; after a crash in between, the same message is written again."""
    scope = f"send_welcome_email/{ctx.topic}"
    users = ctx.services.users
    before = await users.was_welcomed(scope, ctx.event_id, event=event)
    if before == "conflict":
        return Reject("conflict", "this event id came before with another content")
    if before == "new":
        user = await users.find(event.user_id)
        if user is None:
            return Reject("unknown_user")
        try:
            message = welcome(user, ctx.event_id)
        except ValueError as error:
            return Reject("injection", str(error))
        await ctx.services.mailer.send(message)
    await users.welcomed(scope, ctx.event_id, event=event)
    return None


def welcome(user: User, event_id: str) -> EmailMessage:
    """The message. Raises ValueError for names and addresses that would break out of a header."""
    for value in (user.name, user.email):
        if any(ord(letter) < 32 or letter in "\x7f\u2028\u2029" for letter in value):
            raise ValueError("a name or address holds a control character")
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = Address(user.name, addr_spec=user.email)
    message["Subject"] = f"Welcome, {user.name}"
    message["Message-ID"] = f"<{hashlib.sha256(event_id.encode()).hexdigest()[:32]}@shop.example>"
    message[EVENT_ID] = event_id if event_id.isascii() and event_id.isprintable() else repr(event_id)
    message.set_content(f"Dear {user.name},\n\nwelcome to the shop.\n")
    return message
