"""`/users`: people sign up, and are found."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.services import Services
from handlers.stores.users import User
from handlers.user_created import UserCreated
from streamproc import Answer, Body, Created, HttpContext, Problem

Id = Annotated[str, Meta(min_length=1, max_length=200)]
Email = Annotated[
    str,
    Meta(
        description="an email address",
        max_length=254,
        pattern=r"^(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$(?!\n)",
    ),
]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$(?!\n)",
        description="1 to 200 characters, none of them a control character",
    ),
]
Limit = Annotated[int, Meta(ge=1, le=100)]


class NewUser(Body):
    """Who signs up."""

    email: Email
    name: Name


class UserView(Answer):
    """A user as callers see it."""

    id: str
    email: str
    name: str
    created_at: datetime


class UserPage(Answer):
    """Users in the order of their ids; `next` is the cursor of the next page, None at the end."""

    users: list[UserView]
    next: str | None


async def create_user(new: NewUser, ctx: HttpContext[Services]) -> Created[UserView] | Problem:
    """Stores the user and, in the same transaction, the event that leads to the welcome mail."""
    user = User(ctx.new_id(), new.email, new.name, ctx.now)
    event = ctx.event(UserCreated(user_id=user.user_id), key=user.user_id, event_id=user.user_id)
    stored = await ctx.services.users.create(user, event)
    if stored is None:
        return Problem(409, "A user with this email exists")
    if (stored.email, stored.name) != (new.email, new.name):
        return Problem(422, "This Idempotency-Key was used for another request")
    return Created(view(stored), location=f"/users/{stored.user_id}")


async def get_user(id: Id, ctx: HttpContext[Services]) -> UserView | Problem:
    """One user."""
    user = await ctx.services.users.find(id)
    return Problem(404, "Not found") if user is None else view(user)


async def list_users(ctx: HttpContext[Services], limit: Limit = 20, next: str = "") -> UserPage:
    """A page of users: those after the cursor `next`."""
    users = await ctx.services.users.page(after=next, limit=limit + 1)
    more = len(users) > limit
    return UserPage(users=[view(user) for user in users[:limit]], next=users[limit - 1].user_id if more else None)


def view(user: User) -> UserView:
    """A row as callers see it."""
    return UserView(id=user.user_id, email=user.email, name=user.name, created_at=user.created_at)
