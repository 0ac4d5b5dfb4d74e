"""What tests share: a real Apache Kafka, PostgreSQL and S3 server for the whole run, started when first asked for."""

import asyncio
import gc
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc.adapters.broker import start_broker
from tests.postgres import Postgres, Shop, running, shop
from tests.seaweedfs import Server

# CPython 3.11.7 may fail to parse a test module when the collector runs in the middle of it (python/cpython#106905).
gc.disable()


def pytest_collection_finish() -> None:
    """All test modules are parsed."""
    gc.enable()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the service runs on: its transports fail in their own way."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an Apache Kafka: that of STREAMPROC_TEST_BOOTSTRAP, else one of the run's own."""
    given = os.environ.get("STREAMPROC_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    with start_broker(data_dir=Path(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL: that of STREAMPROC_TEST_POSTGRES (the address of a superuser), else one of the run's own."""
    with running(os.environ) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_shop(postgres: Postgres) -> Iterator[Shop]:
    """A database of the application, with the roles of deploy/postgres.sql. Who uses it empties it first."""
    with shop(postgres) as made:
        yield made


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[Server]:
    """An S3 server with an empty bucket. Who counts on that empties it first."""
    with Server() as server:
        yield server


@pytest.fixture
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
async def topic(admin: AIOKafkaAdminClient) -> str:
    """A new topic of four partitions, with its dead-letter topic."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    await admin.create_topics([NewTopic(name, 4, 1), NewTopic(f"{name}.dlq", 4, 1)])
    return name
