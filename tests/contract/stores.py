"""Opened stores of a test, and how their tables are read past them."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers.stores.opening import Stores
from handlers.stores.orders import Order
from handlers.stores.processed import Delivery, Refused
from handlers.stores.readings import Reading
from handlers.stores.users import User
from streamproc.adapters.store import StoreOptions
from streamproc.model import OutRecord
from streamproc.rows import LegRecord, LegState

ONE, OTHER = b"1" * 16, b"2" * 16
NOON = datetime(2026, 11, 24, 12, 0, 0, 123_457, UTC)
LATER = NOON + timedelta(hours=1)
EVENT = OutRecord("events", b'{"type": "user.created"}', b"u-1", (("id", b"e-1"), ("empty", b""), ("none", None)))

Query = Callable[[str], Awaitable[Sequence[Any]]]


@dataclass(frozen=True)
class World:
    """A database: how stores are opened on it, and its rows as tuples, with times in seconds."""

    options: StoreOptions
    query: Query


@dataclass(frozen=True)
class Store:
    """Opened stores, and what their tables hold."""

    stores: Stores
    query: Query


def sqlite_world(folder: Path) -> World:
    async def query(sql: str) -> list[Any]:
        with closing(sqlite3.connect(folder / "a.db")) as connection, connection:
            return connection.execute(sql).fetchall()

    return World(StoreOptions(url=f"sqlite:///{folder}/a.db"), query)


def user(user_id: str = "u-1", email: str = "u@example.com", name: str = "User") -> User:
    return User(user_id, email, name, NOON)


def order(order_id: str = "o-1", user_id: str = "u-1", **quantities: int) -> Order:
    return Order(order_id, user_id, quantities, NOON)


def delivery(event_id: str, fingerprint: bytes = ONE, *, scope: str = "f/events") -> Delivery:
    return Delivery(scope, event_id, fingerprint)


def leg(
    name: str = "inventory", state: LegState = "done", *, run: str = "o-1", fingerprint: bytes = ONE, attempts: int = 1
) -> LegRecord:
    return LegRecord(f"order/{run}", name, fingerprint, state, attempts, NOON, LATER, "result", "detail")


def reading(event_id: str, temperature: float = 20.5, *, at: datetime = NOON) -> Reading:
    return Reading("s-1", NOON, event_id, temperature, 40.0, at)


async def refusal(work: Awaitable[object]) -> str:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value.outcome.reason
