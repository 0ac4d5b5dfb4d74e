"""A database of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.stores.opening import open_stores
from tests.contract.stores import Store, World, sqlite_world


@pytest.fixture(params=["sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """An empty database."""
    return sqlite_world(tmp_path)


@pytest.fixture
async def store(world: World) -> AsyncIterator[Store]:
    """Stores on an empty database."""
    async with open_stores(world.options) as stores:
        yield Store(stores, world.query)
