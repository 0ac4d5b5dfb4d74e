"""kill -9 at each point between a request and its effects: nothing is lost, and each effect happens once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.contract.mail_server import MailServer
from tests.integration.api import World, mail_server, postgres, received, sqlite
from tests.integration.crash_app import POINTS
from tests.integration.harness import Service, until_true
from tests.postgres import Postgres

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]
AT_ONCE = 4

Open = Callable[[int, Path], AbstractAsyncContextManager[tuple[World, MailServer | None]]]


@pytest.fixture(params=["SQLite and a folder", "PostgreSQL and SMTP"])
def opened(request: pytest.FixtureRequest, bootstrap: str) -> Iterator[Open]:
    """Opens the shop of a point, with a database and mail of one kind."""

    @asynccontextmanager
    async def on_files(_: int, folder: Path) -> AsyncIterator[tuple[World, None]]:
        yield World(folder, bootstrap, sqlite(folder)), None

    @asynccontextmanager
    async def on_servers(number: int, folder: Path) -> AsyncIterator[tuple[World, MailServer]]:
        async with mail_server() as mails:
            yield World(folder, bootstrap, databases[number], mails), mails

    if request.param == "SQLite and a folder":
        yield on_files
        return
    server: Postgres = request.getfixturevalue("postgres")
    with ExitStack() as stack:
        databases = [stack.enter_context(postgres(server)) for _ in POINTS]
        yield on_servers


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/users", {"email": "a@example.com", "name": "A"}),
    ("/orders", {"userId": "u-0", "items": [{"sku": "sku-0", "quantity": 3}]}),
]


def start(world: World, crash_at: str) -> Service:
    """A service that dies at a point, or at none."""
    return world.start(app="tests.integration.crash_app:app", env={"CRASH_AT": crash_at})


async def ask(world: World, service: Service, path: str, body: dict[str, Any]) -> bool:
    """One request, which a caller who got no answer repeats with the same key."""
    async with world.client(await service.listening()) as client:
        try:
            answer = await client.post(path, json=body, headers={"idempotency-key": path})
        except httpx2.HTTPError:
            return False
    assert answer.status_code == 201, answer.text
    return True


async def ask_all(world: World, service: Service) -> list[tuple[str, dict[str, Any]]]:
    """Makes one request after the other, once all that follows from the one before has happened; those unanswered."""
    unanswered = []
    for path, body in REQUESTS:
        if not await ask(world, service, path, body):
            unanswered.append((path, body))

        async def has_followed() -> bool:
            return service.has_ended or await world.is_done()

        await until_true(has_followed, f"what follows from {path} has happened")
    return unanswered


async def survive(world: World, point: str) -> dict[str, Any]:
    """Asks a service that dies at a point, and another one what was not answered; what has come of it in the end."""
    with start(world, point) as service:
        unanswered = await ask_all(world, service)
        assert await service.exit_code() == -9, point
    with start(world, "") as service:
        await service.listening()
        for path, body in unanswered:
            assert await ask(world, service, path, body), point
        await until_true(world.is_done, f"everything is done after a kill at {point!r}")
        assert await service.stop() == 0
    sent = Counter((world.folder / "effects").read_text().split())
    events = await world.events()
    return {
        "users": len(await world.query("SELECT 1 FROM users WHERE user_id <> 'u-0'")),
        "orders": len(await world.query("SELECT 1 FROM orders")),
        "stock": (await world.query("SELECT quantity FROM stock WHERE sku = 'sku-0'"))[0][0],
        "letters": len(await world.letters()),
        "events": len(set(events)),
        "publications": len(events),
        "messages": len(sent),
        "copies": max(sent.values()),
    }


async def test_a_kill_at_any_point_loses_nothing_and_repeats_no_effect(
    opened: Open, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def tried(number: int, point: str) -> None:
        async with places, opened(number, tmp_path / str(number)) as (world, mails):
            await world.prepare(admin)
            end = await survive(world, point)
            assert end.pop("publications") >= (3 if point == "published, not removed from the outbox" else 2), point
            copies = 2 if point == "mailed, not recorded" else 1
            whole = {"users": 1, "orders": 1, "stock": 97, "letters": 0, "events": 2, "messages": 1, "copies": copies}
            assert end == whole, point
            assert mails is None or list(received(mails).values()) == [copies], point

    async with asyncio.TaskGroup() as group:
        for number, point in enumerate(POINTS):
            group.create_task(tried(number, point))
