"""kill -9 at each point between a request and its effects: nothing is lost, and each effect happens once."""

import asyncio
import secrets
import sqlite3
import time
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from handlers.seed import seed
from handlers.services import open_services
from streamproc.http.auth import sign
from streamproc.http.options import AuthOptions
from streamproc.settings import load
from tests.integration.crash_app import POINTS
from tests.integration.harness import Service, read_all, until_true

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]
AT_ONCE = 4


@dataclass
class World:
    """One application with stores of its own, which is killed at one point and started again."""

    folder: Path
    bootstrap: str
    point: str
    topic: str = field(default_factory=lambda: f"crash-{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "secret").write_text(secrets.token_hex(32))
        self.auth = AuthOptions(secret_file=str(self.folder / "secret"), development=True)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "store.url": f"sqlite:///{self.folder}/shop.db",
            "mail.directory": str(self.folder / "mail"),
            "auth.secret_file": self.auth.secret_file,
            "auth.development": "true",
        }

    def start(self, monkeypatch: pytest.MonkeyPatch, crash_at: str) -> Service:
        """A service that dies at a point, or at none."""
        monkeypatch.setenv("CRASH_AT", crash_at)
        named = {name.replace(".", "__"): value for name, value in self.settings.items()}
        app = "tests.integration.crash_app:app"
        more = {"http__listen": "127.0.0.1:0", "group": self.topic, **named}
        return Service(self.folder, self.bootstrap, self.topic, app=app, **more)

    async def prepare(self, admin: AIOKafkaAdminClient) -> None:
        topics = [NewTopic(self.topic, 1, 1), NewTopic(f"{self.topic}.dlq", 1, 1)]
        await admin.create_topics(topics)
        async with open_services(load(None, {}, flags=self.settings).settings) as services:
            await seed(services, users=1, skus=1, quantity=100)

    def query(self, sql: str) -> list[Any]:
        """Rows of the store."""
        with closing(sqlite3.connect(self.folder / "shop.db")) as connection:
            return connection.execute(sql).fetchall()

    async def ask(self, service: Service, path: str, body: dict[str, Any]) -> bool:
        """One request, which a caller who got no answer repeats with the same key."""
        scopes = ["users:write", "orders:write"]
        token = sign(self.auth, subject="u-1", scopes=scopes, lifetime_s=600, now=time.time())
        headers = {"authorization": f"Bearer {token}", "idempotency-key": path}
        address = await service.listening("answering")
        try:
            async with httpx2.AsyncClient() as client:
                answer = await client.post(f"http://{address}{path}", json=body, headers=headers, timeout=30)
        except httpx2.HTTPError:
            return False
        assert answer.status_code == 201, answer.text
        return True

    async def is_done(self) -> bool:
        """Whether everything that follows from the two requests has happened."""
        mailed = self.query("SELECT 1 FROM processed WHERE scope LIKE 'send_welcome_email/%' AND deliveries > 0")
        taken = self.query("SELECT 1 FROM orders WHERE taken_at IS NOT NULL")
        return bool(mailed and taken) and not self.query("SELECT 1 FROM outbox")


USER = {"email": "a@example.com", "name": "A"}
ORDER = {"userId": "u-0", "items": [{"sku": "sku-0", "quantity": 3}]}


async def _survive(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with world.start(monkeypatch, world.point) as service:
        answered = {path: await world.ask(service, path, body) for path, body in (("/users", USER), ("/orders", ORDER))}
        assert await service.exit_code() == -9, world.point
    with world.start(monkeypatch, "") as service:
        await service.listening()
        for path, body in (("/users", USER), ("/orders", ORDER)):
            if not answered[path]:
                assert await world.ask(service, path, body), world.point
        await until_true(world.is_done, f"everything is done after a kill at {world.point!r}")
        assert await service.stop() == 0
    mails = Counter((world.folder / "effects").read_text().split())
    return {
        "users": len(world.query("SELECT 1 FROM users WHERE user_id <> 'u-0'")),
        "orders": len(world.query("SELECT 1 FROM orders")),
        "stock": world.query("SELECT quantity FROM stock WHERE sku = 'sku-0'")[0][0],
        "messages": len(mails),
        "copies": max(mails.values()),
        "letters": len(await read_all(world.bootstrap, f"{world.topic}.dlq")),
    }


async def test_a_kill_at_any_point_loses_nothing_and_repeats_no_effect(
    bootstrap: str, admin: AIOKafkaAdminClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def survive(number: int, point: str) -> dict[str, Any]:
        async with places:
            world = World(tmp_path / str(number), bootstrap, point)
            await world.prepare(admin)
            return await _survive(world, monkeypatch)

    ends = await asyncio.gather(*(survive(number, point) for number, point in enumerate(POINTS)))
    for point, end in zip(POINTS, ends, strict=True):
        copies = end.pop("copies")
        assert end == {"users": 1, "orders": 1, "stock": 97, "messages": 1, "letters": 0}, point
        assert copies <= (2 if point == "mailed, not recorded" else 1), point
