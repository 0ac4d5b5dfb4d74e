"""The shop as a test sets it up: database, mail, topics and tokens of its own; the services on it, and callers."""

import asyncio
import json
import secrets
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from handlers.seed import seed
from handlers.services import open_services
from handlers.stores.users import User
from handlers.user_created import UserCreated
from streamproc.http.auth import sign
from streamproc.http.options import AuthOptions
from streamproc.model import OutRecord
from streamproc.settings import Settings, load
from streamproc.stream.wrap import wrap
from tests.contract.mail_server import MailServer
from tests.integration.harness import NOTHING, PATIENCE_S, Service, metrics, read_all, until
from tests.postgres import Postgres, shop

SCOPES = (
    *("users:write", "users:read", "orders:write", "orders:read", "readings:write", "readings:read"),
    *("files:write", "files:read"),
)
ACTIVE = "streamproc_outbox_relay_active"
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database", ["postgres"], indirect=True)


@dataclass(frozen=True)
class Database:
    """Where a shop keeps its rows: settings of a service, and how a test reads them past it."""

    settings: Mapping[str, object]
    query: Callable[[str], Awaitable[Sequence[Any]]]


def sqlite(folder: Path) -> Database:
    """A file, made by the first service."""

    async def query(sql: str) -> Sequence[Any]:
        with closing(sqlite3.connect(folder / "shop.db", timeout=PATIENCE_S)) as connection:
            return connection.execute(sql).fetchall()

    return Database({"store.url": f"sqlite:///{folder}/shop.db"}, query)


@contextmanager
def postgres(server: Postgres) -> Iterator[Database]:
    """A database of its own; services have the rights of the application and no more."""
    with shop(server) as made:
        yield Database({"store.url": made.app.url, "store.password": made.app.password}, made.query)


class World:
    """A shop, whose services share its database and topic.

    Mail goes to `mails`, objects where the settings `objects` say; without them, each to a folder.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        database: Database,
        mails: MailServer | None = None,
        *,
        objects: Mapping[str, object] = NOTHING,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.bootstrap = bootstrap
        self.query = database.query
        self.topic = f"api-{uuid.uuid4().hex[:12]}"
        self.secret = folder / "secret"
        self.secret.write_text(secrets.token_hex(32))
        self.auth = AuthOptions(secret_file=str(self.secret), development=True)
        by_mail = {"mail.transport": "smtp", "mail.host": "127.0.0.1", "mail.port": mails.port} if mails else {}
        self.settings: dict[str, Any] = {
            "mail.directory": str(folder / "mail"),
            "objects.url": f"file:{folder}/objects",
            "auth.secret_file": self.auth.secret_file,
            "auth.development": "true",
            "http.listen": "127.0.0.1:0",
            **database.settings,
            **by_mail,
            **objects,
        }

    @property
    def loaded(self) -> Settings:
        """The settings of its services."""
        return load(None, {}, flags=self.settings).settings

    async def prepare(self, admin: AIOKafkaAdminClient, *, partitions: int = 1) -> None:
        """Makes the topics, a user and stock."""
        own = [NewTopic(self.topic, partitions, 1), NewTopic(f"{self.topic}.dlq", 1, 1)]
        await admin.create_topics(own)
        async with open_services(self.loaded) as services:
            await seed(services, users=1, skus=1, quantity=100)

    def start(self, *, app: str = "handlers.app:app", **more: Any) -> Service:
        """A service of this shop; `more` are settings, and what `Service` takes."""
        return Service(self.folder, self.bootstrap, self.topic, app=app, group=self.topic, **self.settings, **more)

    def token(self) -> str:
        """A token for all that the shop does."""
        return sign(self.auth, subject="u-1", scopes=SCOPES, lifetime_s=600, now=time.time())

    def client(self, address: str) -> httpx2.AsyncClient:
        """Somebody with that token who asks a service."""
        headers = {"authorization": f"Bearer {self.token()}"}
        return httpx2.AsyncClient(base_url=f"http://{address}", headers=headers, timeout=PATIENCE_S)

    async def events(self) -> list[str]:
        """The event ids on the topic, partition by partition, in their order."""
        return [json.loads(record.value)["eventID"] for record in await read_all(self.bootstrap, self.topic)]

    async def letters(self) -> list[dict[str, str]]:
        """The headers of the dead letters."""
        found = await read_all(self.bootstrap, f"{self.topic}.dlq")
        return [{name: value.decode() for name, value in record.headers} for record in found]

    async def is_done(self) -> bool:
        """Whether no event waits, each user who signed up was welcomed, and each order is confirmed."""
        welcomed = "SELECT count(*) FROM processed WHERE scope LIKE 'send_welcome_email/%' AND deliveries > 0"
        confirmed = "SELECT count(*) FROM workflow_legs WHERE leg = 'confirmation' AND state = 'done'"
        counts = f"""SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM users WHERE user_id <> 'u-0'),
            ({welcomed}), (SELECT count(*) FROM orders), ({confirmed})"""  # noqa: S608
        waiting, users, mailed, orders, done = (await self.query(counts))[0]
        return (waiting, mailed, done) == (0, users, orders)


@asynccontextmanager
async def mail_server(**options: Any) -> AsyncIterator[MailServer]:
    """A mail server in the test's loop."""
    server = await MailServer(**options).start()
    try:
        yield server
    finally:
        await server.stop()


def received(server: MailServer) -> Counter[tuple[str, str]]:
    """How often each message came: recipient, Message-ID."""
    return Counter(
        (mail.recipients[0], message_from_bytes(mail.content)["Message-ID"].strip()) for mail in server.mails
    )


async def active_relay(services: Sequence[Service]) -> Service:
    """The one of several services that publishes, as soon as there is exactly one."""

    def active() -> list[Service]:
        return [service for service in services if metrics(service.address()).get(ACTIVE)]

    await until(lambda: len(active()) == 1, "one service publishes")
    return active()[0]


async def sign_up(client: httpx2.AsyncClient, name: str) -> str:
    """The id of a new user."""
    answer = await client.post("/users", json={"email": f"{name}@example.com", "name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def sign_up_past_the_services(world: World, user_id: str, *, key: str = "") -> None:
    """What a service does for a request, done here, with an event of any key."""
    encoded = msgspec.json.encode(UserCreated(user_id))
    value, _ = wrap(encoded, "kinesis", event_id=user_id, event_type="user.created", key=key or user_id)
    event = OutRecord(world.topic, value, (key or user_id).encode())
    async with open_services(world.loaded) as services:
        user = User(user_id, f"{user_id}@example.com", user_id, datetime.now(UTC))
        assert await services.users.create(user, event) == user


class Crowd:
    """Callers who sign up one user after the other, each until it is acknowledged, by the first service that answers.

    `broken` are the ids of requests that got no answer.
    """

    def __init__(self, *clients: httpx2.AsyncClient) -> None:
        self._clients = clients
        self.statuses: Counter[int] = Counter()
        self.acknowledged: dict[str, str] = {}
        self.broken: list[str] = []
        self.stop = asyncio.Event()

    async def sign_up_users(self) -> None:
        """One caller, until `stop` is set."""
        while not self.stop.is_set():
            name = uuid.uuid4().hex
            user_id = self.acknowledged[name] = await self._sign_up(name)
            assert await self._sign_up(name) == user_id  # as by a caller who lost the answer

    async def _sign_up(self, name: str) -> str:
        while True:
            answer = await self._ask(name)
            self.statuses[answer.status_code] += 1
            if answer.status_code == 201:
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.1)

    async def _ask(self, name: str) -> httpx2.Response:
        body = {"email": f"{name}@example.com", "name": name}
        for client in self._clients:
            request_id = uuid.uuid4().hex
            headers = {"idempotency-key": name, "x-request-id": request_id}
            try:
                return await client.post("/users", json=body, headers=headers)
            except httpx2.TransportError:
                self.broken.append(request_id)
        raise AssertionError("no service answers")
