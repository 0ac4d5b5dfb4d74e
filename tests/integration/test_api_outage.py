"""Kafka or the database is killed and comes back: what was acknowledged is there, once, and the service never ended."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamproc.adapters.broker import RunningBroker, start_broker
from tests.contract.mail_server import MailServer
from tests.integration.api import Crowd, World, postgres, received, sign_up, sign_up_past_the_services, sqlite
from tests.integration.harness import Service, get, read_all, until, until_true
from tests.postgres import Server

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

RECOVERY_S = 10.0
"""What G10 allows."""
READING = {"timestamp": "2026-01-01T00:00:00Z", "temperature": 20, "humidity": 1}
OF_ONE_KEY = [f"k-{n}" for n in range(10)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A Kafka to be killed."""
    with start_broker(data_dir=tmp_path / "kafka") as running:
        yield running


@pytest.fixture
async def mortal(tmp_path: Path, broker: RunningBroker, mails: MailServer) -> World:
    """A shop on it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    made = World(tmp_path, broker.bootstrap, sqlite(tmp_path), mails)
    await made.prepare(admin)
    await admin.close()
    return made


async def report(client: httpx2.AsyncClient) -> set[int]:
    """Five sensors report, each with the key of its own request; the statuses of the answers."""

    def one(number: int) -> Awaitable[httpx2.Response]:
        reading = READING | {"sensorId": f"s-{number}"}
        return client.post("/readings", json=reading, headers={"idempotency-key": f"r-{number}"})

    answers = await asyncio.gather(*map(one, range(5)))
    assert all(answer.headers.get("retry-after") == "1" for answer in answers if answer.status_code == 503)
    return {answer.status_code for answer in answers}


async def are_stored(world: World, deliveries: int) -> bool:
    """Whether so many readings came, repeats included."""
    return ((await world.query("SELECT sum(deliveries) FROM readings"))[0][0] or 0) >= deliveries


async def without_kafka(world: World, service: Service, client: httpx2.AsyncClient) -> list[str]:
    """Users sign up and sensors report; the ids of the users."""
    users = [await sign_up(client, f"ann-{n}") for n in range(5)]
    for user_id in OF_ONE_KEY:
        await sign_up_past_the_services(world, user_id, key="one")
    assert await report(client) == {503}
    ready = f"http://{service.address()}/readyz"
    await until(lambda: "events wait in the outbox" in get(ready)[1], "the relay says that it cannot publish")
    users.append(await sign_up(client, "ann-late"))
    assert await world.query("SELECT count(*) FROM outbox") == [(len(users) + len(OF_ONE_KEY),)]
    return [*users, *OF_ONE_KEY]


async def test_without_kafka_users_sign_up_and_readings_are_refused(
    mortal: World, broker: RunningBroker, mails: MailServer
) -> None:
    world = mortal
    with world.start() as service:
        await service.ready()
        async with world.client(await service.listening()) as client:
            users = [await sign_up(client, "before")]
            await until_true(world.is_done, "all is well")
            broker.kill()
            users += await without_kafka(world, service, client)
            await asyncio.to_thread(broker.restart)
            returned = time.monotonic()
            await until_true(world.is_done, "what waited is published and handled")
            assert time.monotonic() - returned < RECOVERY_S
            assert [await report(client) for _ in range(2)] == [{202}, {202}]
            await until_true(lambda: are_stored(world, 10), "the readings came twice")
        assert await service.stop() == 0
    records = [(one.key, json.loads(one.value)["eventID"]) for one in await read_all(world.bootstrap, world.topic)]
    published = Counter(event_id for _, event_id in records)
    assert set(users) <= published.keys()
    assert max(published[user] for user in users) <= 2  # what was under way may have arrived, and nobody heard of it
    assert list(dict.fromkeys(event_id for key, event_id in records if key == b"one")) == OF_ONE_KEY
    assert sorted(received(mails).values()) == [1] * len(users)
    assert await world.query("SELECT count(*) FROM readings") == [(5,)]
    assert await world.letters() == []


async def test_a_service_ends_as_told_also_while_kafka_is_gone(mortal: World, broker: RunningBroker) -> None:
    with mortal.start() as service:
        await service.ready()
        broker.kill()
        await sign_up_past_the_services(mortal, "u-waits")
        await until(lambda: "Connection refused" in service.log.read_text(), "Kafka is gone")
        told = time.monotonic()
        assert await service.stop() == 0
        assert time.monotonic() - told < RECOVERY_S
    assert "Traceback" not in service.log.read_text()


async def test_without_a_database_requests_are_refused_and_nothing_is_lost(
    tmp_path: Path, bootstrap: str, admin: AIOKafkaAdminClient, mails: MailServer
) -> None:
    with Server() as server, postgres(server.postgres) as database:
        world = World(tmp_path, bootstrap, database, mails)
        await world.prepare(admin, partitions=2)
        # The retries it has may be used up before a busy machine has the database running again.
        with world.start(functions__send_welcome_email__max_retry_attempts=-1) as service:
            await service.ready()
            async with world.client(await service.listening()) as client, asyncio.TaskGroup() as group:
                crowd = Crowd(client)
                for _ in range(8):
                    group.create_task(crowd.sign_up_users())
                await until(lambda: len(crowd.acknowledged) > 50, "users sign up")
                server.stop(signal.SIGKILL)
                await until(lambda: crowd.statuses[503] > 50, "users are refused")
                ready = f"http://{service.address()}/readyz"
                await until(lambda: "the outbox cannot be read" in get(ready)[1], "it says that the database is gone")
                assert get(f"http://{service.address()}/livez")[0] == 200
                await asyncio.to_thread(server.start)
                returned, before = time.monotonic(), len(crowd.acknowledged)
                await until(lambda: len(crowd.acknowledged) > before + 50, "users sign up again")
                crowd.stop.set()
            await until_true(world.is_done, "all are welcomed")
            assert time.monotonic() - returned < RECOVERY_S
            assert await service.stop() == 0
        assert "Traceback" not in service.log.read_text()
        rows = await world.query("SELECT name, user_id FROM users WHERE user_id <> 'u-0'")
        published = Counter(await world.events())
    assert crowd.statuses.keys() == {201, 503}
    assert dict(rows) == crowd.acknowledged
    assert len(rows) == len(crowd.acknowledged)
    assert published.keys() == set(crowd.acknowledged.values())
    messages = received(mails)
    assert sorted(recipient for recipient, _ in messages) == sorted(
        f"{name}@example.com" for name in crowd.acknowledged
    )
    assert max(published.values()) <= 2  # published or sent, but the database was gone before that could be recorded
    assert max(messages.values()) <= 2
    assert await world.letters() == []
