"""A database of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.stores.opening import open_stores
from tests.contract.stores import Store, World, sqlite_world
from tests.postgres import Shop


@pytest.fixture(params=["sqlite", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """An empty database; what is opened on PostgreSQL has no more rights than the application."""
    if request.param == "sqlite":
        return sqlite_world(tmp_path)
    shop: Shop = request.getfixturevalue("postgres_shop")
    await shop.empty()
    return World(shop.app, shop.query)


@pytest.fixture
async def store(world: World) -> AsyncIterator[Store]:
    """Stores on an empty database."""
    async with open_stores(world.options) as stores:
        yield Store(stores, world.query)
