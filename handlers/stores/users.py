"""The users."""

import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from handlers.stores.processed import check_keys, check_text
from streamproc.adapters.postgres_outbox import event_of, event_values
from streamproc.adapters.sqlite import SqliteDatabase
from streamproc.adapters.sqlite_outbox import add_to_outbox
from streamproc.adapters.together import Together
from streamproc.model import OutRecord

if TYPE_CHECKING:
    from streamproc.adapters.postgres import PostgresDatabase


class User(NamedTuple):
    """A user."""

    user_id: str
    email: str
    name: str
    created_at: datetime


class Users(Protocol):
    """Users by their id; no two have the same email. What writes raises Refused with nul or too_long."""

    async def find(self, user_id: str) -> User | None:
        """The user, None when there is none."""

    async def page(self, *, after: str, limit: int) -> Sequence[User]:
        """The first users whose id is greater, by their ids as bytes of UTF-8."""

    async def create(self, user: User, event: OutRecord) -> User | None:
        """Stores a user and the event that tells of it, in one transaction, and returns what is stored of this id.

        An id that exists is left as it is, without an event. None when another user has this email.
        """

    async def add(self, users: Iterable[User]) -> None:
        """Adds users in one transaction; those whose id or email exists stay as they are."""

    async def count(self, since: datetime, until: datetime) -> int:
        """How many users signed up from a time on and before another."""


def email_key(email: str) -> str:
    """What is equal for addresses that people take for the same: without case, in one form of Unicode."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).casefold())


def _checked(user: User) -> str:
    """The key of its email. Raises Refused for what cannot be stored."""
    key = email_key(user.email)
    check_keys(user.user_id, key)
    check_text(user.email, user.name)
    return key


_COLUMNS = "user_id, email, name, created_at"


class SqliteUsers:
    """Users in SQLite."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def find(self, user_id: str) -> User | None:
        """See the port."""
        return await self._database.run(lambda connection: _find(connection, user_id))

    async def page(self, *, after: str, limit: int) -> Sequence[User]:
        """See the port."""
        select = f"SELECT {_COLUMNS} FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?"  # noqa: S608
        rows = await self._database.run(lambda connection: connection.execute(select, (after, limit)).fetchall())
        return [_user(*row) for row in rows]

    async def create(self, user: User, event: OutRecord) -> User | None:
        """See the port."""
        row = _row(user)

        def work(connection: sqlite3.Connection) -> User | None:
            if not connection.execute(_INSERT, row).rowcount:
                return _find(connection, user.user_id)
            add_to_outbox(connection, [event])
            return user

        return await self._database.run(work)

    async def add(self, users: Iterable[User]) -> None:
        """See the port."""
        rows = [_row(user) for user in users]
        await self._database.run(lambda connection: connection.executemany(_INSERT, rows))

    async def count(self, since: datetime, until: datetime) -> int:
        """See the port."""
        select = "SELECT count(*) FROM users WHERE created_at >= ? AND created_at < ?"
        times = since.timestamp(), until.timestamp()
        return int((await self._database.run(lambda connection: connection.execute(select, times).fetchone()))[0])


_INSERT = (
    "INSERT INTO users (user_id, email, email_key, name, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


def _row(user: User) -> tuple[object, ...]:
    return (user.user_id, user.email, _checked(user), user.name, user.created_at.timestamp())


def _find(connection: sqlite3.Connection, user_id: str) -> User | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM users WHERE user_id = ?", (user_id,)).fetchone()  # noqa: S608
    return None if row is None else _user(*row)


def _user(user_id: str, email: str, name: str, created_at: float) -> User:
    return User(user_id, email, name, datetime.fromtimestamp(created_at, UTC))


_CREATE = f"""
WITH made AS (
    INSERT INTO users (user_id, email, email_key, name, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING RETURNING user_id
), {event_of("made", 6)}
SELECT user_id FROM made
"""  # noqa: S608
_ADD = """
INSERT INTO users (user_id, email, email_key, name, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT DO NOTHING
"""


class PostgresUsers:
    """Users in PostgreSQL."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database
        self._finding = Together(self._find)

    async def find(self, user_id: str) -> User | None:
        """See the port."""
        return None if "\0" in user_id else await self._finding.ask(user_id)

    async def _find(self, user_ids: Sequence[str]) -> Sequence[User | None]:
        select = f"SELECT {_COLUMNS} FROM users WHERE user_id = ANY ($1::text[])"  # noqa: S608
        found = {row[0]: User(*row) for row in await self._database.fetch(select, user_ids)}
        return [found.get(user_id) for user_id in user_ids]

    async def page(self, *, after: str, limit: int) -> Sequence[User]:
        """See the port."""
        start = after.partition("\0")[0]  # no id holds NUL, so the same ids are greater
        select = f"SELECT {_COLUMNS} FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2"  # noqa: S608
        return [User(*row) for row in await self._database.fetch(select, start, limit)]

    async def create(self, user: User, event: OutRecord) -> User | None:
        """See the port."""
        row = (user.user_id, user.email, _checked(user), user.name, user.created_at)
        if await self._database.fetch(_CREATE, *row, *event_values(event)):
            return user
        return await self.find(user.user_id)

    async def add(self, users: Iterable[User]) -> None:
        """See the port."""
        rows = [(user.user_id, user.email, _checked(user), user.name, user.created_at) for user in users]
        if rows:
            await self._database.execute(_ADD, *zip(*rows, strict=True))

    async def count(self, since: datetime, until: datetime) -> int:
        """See the port."""
        select = "SELECT count(*) FROM users WHERE created_at >= $1 AND created_at < $2"
        return int((await self._database.fetch(select, since, until))[0][0])
