"""The two ways in which the service reads from Kafka, and the shop on each kind of database."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.contract.mail_server import MailServer
from tests.integration.api import Database, World, mail_server, postgres, sqlite


@pytest.fixture(params=["record batches", "record by record"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that are started read whole record batches, or fall back to the client's public interface."""
    monkeypatch.setenv("STREAMPROC_KAFKA__RECORD_BATCHES", str(request.param == "record batches").lower())


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    """A mail server."""
    async with mail_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind."""
    if request.param == "sqlite":
        yield sqlite(tmp_path)
    else:
        with postgres(request.getfixturevalue("postgres")) as made:
            yield made


@pytest.fixture
async def world(
    tmp_path: Path, bootstrap: str, admin: AIOKafkaAdminClient, database: Database, mails: MailServer
) -> World:
    """A shop with its topics, a user and stock."""
    made = World(tmp_path, bootstrap, database, mails)
    await made.prepare(admin, partitions=2)
    return made
