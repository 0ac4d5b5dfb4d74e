"""The users of the application."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from handlers.stores import Claim
from handlers.stores.processed import claim, seen
from streamproc import Event
from streamproc.adapters.sqlite import SqliteDatabase


@dataclass(frozen=True, slots=True)
class User:
    """A user."""

    user_id: str
    email: str
    name: str


class Users(Protocol):
    """Users, and which of them were welcomed."""

    async def find(self, user_id: str) -> User | None:
        """The user of an id."""

    async def was_welcomed(self, scope: str, event_id: str, *, event: Event) -> Claim:
        """Whether the welcome of an event was sent."""

    async def add(self, users: Iterable[User]) -> None:
        """Adds users; those that exist are replaced."""

    async def welcomed(self, scope: str, event_id: str, *, event: Event) -> Claim:
        """Marks that the welcome of an event was sent."""


class SqliteUsers:
    """Users in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def find(self, user_id: str) -> User | None:
        """See the port."""

        def call(connection: sqlite3.Connection) -> User | None:
            row = connection.execute("SELECT user_id, email, name FROM users WHERE user_id = ?", (user_id,)).fetchone()
            return None if row is None else User(*row)

        return await self._database.run(call)

    async def was_welcomed(self, scope: str, event_id: str, *, event: Event) -> Claim:
        """See the port."""
        return await self._database.run(lambda connection: seen(connection, scope, event_id, event=event))

    async def add(self, users: Iterable[User]) -> None:
        """See the port."""
        rows = [(user.user_id, user.email, user.name) for user in users]
        await self._database.run(lambda connection: connection.executemany("REPLACE INTO users VALUES (?, ?, ?)", rows))

    async def welcomed(self, scope: str, event_id: str, *, event: Event) -> Claim:
        """See the port."""
        return await self._database.run(lambda connection: claim(connection, scope, event_id, event=event))
