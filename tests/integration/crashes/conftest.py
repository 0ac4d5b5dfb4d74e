"""The shop of each point, in two worlds: all in one folder, and all on servers."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import obstore
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from obstore.store import S3Store

from tests.integration.api import Database, World, mail_server, sqlite
from tests.integration.api import postgres as new_database
from tests.integration.crashes.run import Open, Place
from tests.postgres import Postgres
from tests.seaweedfs import ACCESS_KEY, BUCKET, SECRET_KEY, Server


@asynccontextmanager
async def in_a_thread(made: AbstractContextManager[Database]) -> AsyncIterator[Database]:
    """A database that is made and dropped beside the loop: the server waits for clients that are logging in there."""
    database = await asyncio.to_thread(made.__enter__)
    try:
        yield database
    finally:
        await asyncio.to_thread(made.__exit__, None, None, None)


def keys(client: S3Store, part: str) -> list[str]:
    """The objects with this in their key."""
    return [found["path"] for found in obstore.list(client).collect() if part in found["path"]]


@pytest.fixture
def in_a_folder(bootstrap: str, admin: AIOKafkaAdminClient, tmp_path: Path) -> Open:
    """Opens the shop of a point on SQLite, with mail and objects in folders."""

    @asynccontextmanager
    async def opened(number: int) -> AsyncIterator[Place]:
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder, bootstrap, sqlite(folder))
        await world.prepare(admin)
        yield Place(world, None, lambda: sum(len(files) for *_, files in os.walk(folder / "objects")), admin)

    return opened


@pytest.fixture
def on_servers(
    bootstrap: str, admin: AIOKafkaAdminClient, tmp_path: Path, postgres: Postgres, seaweedfs: Server
) -> Open:
    """Opens the shop of a point on PostgreSQL, with mail over SMTP and objects in S3."""
    options = seaweedfs.options()
    names = ("url", "endpoint", "access_key", "secret_key")
    objects = {f"objects.{name}": getattr(options, name) for name in names}
    client = S3Store(
        BUCKET,
        config={"endpoint": seaweedfs.endpoint, "region": options.region},
        client_options={"allow_http": True},
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
    )

    @asynccontextmanager
    async def opened(number: int) -> AsyncIterator[Place]:
        folder = tmp_path / str(number)
        async with mail_server() as mails, in_a_thread(new_database(postgres)) as made:
            world = World(folder, bootstrap, made, mails, objects=objects)
            await world.prepare(admin)
            yield Place(world, mails, lambda: len(keys(client, world.topic)), admin)

    return opened


@pytest.fixture(params=["in_a_folder", "on_servers"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens the shop of a point, in each world."""
    found: Open = request.getfixturevalue(request.param)
    return found
