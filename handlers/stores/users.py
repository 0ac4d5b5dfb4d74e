"""The users."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from streamproc.adapters.sqlite import SqliteDatabase


class User(NamedTuple):
    """A user."""

    user_id: str
    email: str
    name: str


class Users(Protocol):
    """Users by their id."""

    async def find(self, user_id: str) -> User | None:
        """The user, None when there is none."""

    async def add(self, users: Iterable[User]) -> None:
        """Adds users in one transaction; those that exist stay as they are."""


class SqliteUsers:
    """Users in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def find(self, user_id: str) -> User | None:
        """See the port."""

        def work(connection: sqlite3.Connection) -> User | None:
            row = connection.execute("SELECT user_id, email, name FROM users WHERE user_id = ?", (user_id,)).fetchone()
            return None if row is None else User(*row)

        return await self._database.run(work)

    async def add(self, users: Iterable[User]) -> None:
        """See the port."""
        insert = "INSERT INTO users (user_id, email, name) VALUES (?, ?, ?) ON CONFLICT (user_id) DO NOTHING"
        await self._database.run(lambda connection: connection.executemany(insert, users))
