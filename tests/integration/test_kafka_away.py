"""A process whose Kafka is away from the start: what works without it works, and it says what it waits for."""

import signal
from pathlib import Path

import pytest

from streamproc.adapters.broker_files import free_port
from tests.integration.api import World, sqlite
from tests.integration.harness import Service, get, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A shop on a file, without a broker."""
    return World(tmp_path, f"127.0.0.1:{free_port()}", sqlite(tmp_path))


async def test_an_api_with_an_outbox_answers_and_keeps_its_events(world: World) -> None:
    with world.start(only="http") as service:
        async with world.client(await service.listening()) as client:
            answer = await client.post("/users", json={"name": "Ada", "email": "ada@example.com"})
            assert answer.status_code == 201, answer.text
        ready = get(f"http://{service.address()}/readyz")
        assert ready[0] == 503
        assert f"waiting for Kafka at {world.bootstrap}: did not answer: ConnectionRefusedError" in ready[1]
        assert get(f"http://{service.address()}/livez")[0] == 200
        assert await service.stop() == 0
    assert await world.query("SELECT count(*) FROM outbox") == [(1,)]


async def test_an_api_without_an_outbox_waits_for_kafka(tmp_path: Path) -> None:
    app = "tests.integration.stubborn_app:api"
    with Service(tmp_path, f"127.0.0.1:{free_port()}", "events", app=app, http__listen="127.0.0.1:0") as service:
        await until(lambda: "waiting for Kafka" in get(f"http://{service.address()}/readyz")[1], "it says so")
        assert service.address("answering") == ""
        service.signal(signal.SIGINT)
        assert await service.exit_code() == 0


async def test_a_token_expires_when_the_clock_is_set(world: World) -> None:
    clock = world.folder / "clock"
    clock.write_text("0")
    with world.start(app="tests.integration.clock_app:app", only="http", env={"CLOCK": str(clock)}) as service:
        async with world.client(await service.listening()) as client:
            assert (await client.get("/users")).status_code == 200
            clock.write_text("3600")
            assert (await client.get("/users")).status_code == 401
            clock.write_text("-3600")
            assert (await client.get("/users")).status_code == 401
            clock.write_text("0")
            assert (await client.get("/users")).status_code == 200
        assert await service.stop() == 0
