"""What keeps a service from starting is told in one sentence, with a code that says who must act, and no secret."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamproc.adapters.broker_files import free_port
from tests.integration.api import World, sqlite
from tests.integration.harness import Service
from tests.postgres import Postgres, Shop

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]
WRONG = "canary-of-a-wrong-password"


@pytest.fixture
def world(tmp_path: Path, bootstrap: str) -> World:
    """A shop that never opens."""
    return World(tmp_path, bootstrap, sqlite(tmp_path))


@pytest.fixture
def taken() -> Iterator[str]:
    """An address where another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


async def complaint(service: Service, code: int = 2) -> str:
    """The one sentence of a service that ends by itself, with this exit code."""
    with service:
        assert await service.exit_code() == code
    by_us = [entry for entry in service.logged() if entry.get("logger") != "aiokafka"]
    errors = [entry for entry in by_us if entry.get("level") not in ("debug", "info")]
    assert len(errors) == 1, service.log.read_text()
    return str(errors[0].get("raw", errors[0]["message"]))


SETTINGS: list[tuple[dict[str, str], str]] = [
    ({"auth.secret_file": "", "auth.development": "false"}, "auth: set secret_file, jwks_url or jwks_file"),
    ({"auth.secret_file": "/nowhere/secret"}, "auth.secret_file: cannot read '/nowhere/secret': No such file"),
    ({"http.listen": "0.0.0.0:0"}, "auth.development: .* loopback only"),
    ({"stream.format": "json"}, "stream.format: json of topic .* has no place for the outbox's event ids"),
]


@pytest.mark.parametrize(("changed", "told"), SETTINGS, ids=[next(iter(changed)) for changed, _ in SETTINGS])
async def test_a_setting_that_cannot_work_is_named(world: World, changed: dict[str, str], told: str) -> None:
    world.settings |= changed
    assert re.match(told, await complaint(world.start()))


async def test_a_database_that_does_not_answer_may_come_back(world: World) -> None:
    world.settings["store.url"] = f"postgresql://app@127.0.0.1:{free_port()}/shop"
    told = await complaint(world.start(), code=1)
    assert re.match("PostgreSQL at 127.0.0.1:.* does not answer", told)


@pytest.mark.parametrize("setting", ["http.listen", "ops.listen"])
async def test_an_address_that_is_taken_is_named(
    world: World, admin: AIOKafkaAdminClient, setting: str, taken: str
) -> None:
    await world.prepare(admin)
    world.settings[setting] = taken
    assert await complaint(world.start()) == f"{setting}: cannot listen on {taken}: it is in use by another program"


async def test_a_database_that_is_not_migrated_asks_for_it(world: World, postgres: Postgres) -> None:
    with postgres.database() as name:
        options = postgres.options(name)
        world.settings |= {"store.url": options.url, "store.password": options.password}
        told = await complaint(world.start())
    assert re.fullmatch(r"store.url: the database is at version 0 .*: run `streamproc migrate`", told)


async def test_a_wrong_password_is_not_shown(world: World, postgres_shop: Shop) -> None:
    world.settings |= {"store.url": postgres_shop.app.url, "store.password": WRONG}
    service = world.start(log__level="debug")
    assert "password authentication failed" in await complaint(service)
    assert WRONG not in service.log.read_text()
