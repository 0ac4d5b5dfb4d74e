"""An app behind its gateway, with the broker in memory and a token to call it with."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from streamproc.adapters.memory import MemoryBroker, MemoryProducer, StoredRecord
from streamproc.app import App, Http
from streamproc.errors import BrokerError
from streamproc.http.auth import TokenVerifier, sign
from streamproc.http.gateway import Around, Gateway
from streamproc.http.options import AuthOptions, HttpOptions
from streamproc.http.render import Rendered
from streamproc.model import OutRecord
from streamproc.stream.options import StreamOptions

TOPIC = "events"


class Broker(MemoryProducer):
    """A producer that a test can make refuse."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.broker = broker
        self.down = False

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        if self.down:
            return [BrokerError("the broker is down") for _ in records]
        return await super().send(records)

    def records(self) -> list[StoredRecord]:
        return self.broker.records(TOPIC)


class Rig:
    """A gateway and what is around it. `now` is the time it sees, in seconds since the epoch."""

    def __init__(self, folder: Path, *functions: Http, services: Any = None, **options: Any) -> None:
        secret = folder / "secret"
        secret.write_text("s" * 32)
        self.auth = AuthOptions(secret_file=str(secret), development=True)
        self.now = time.time()
        self.stored = 0
        broker = MemoryBroker(self.time)
        broker.create_topic(TOPIC, 1)
        self.producer = Broker(broker)
        documents = options.pop("documents", None)
        stream = options.pop("stream", StreamOptions())
        around = Around(
            services=services,
            producer=self.producer,
            verifier=TokenVerifier(self.auth, self.time),
            options=HttpOptions(**{"access_log": False, **options}),
            stream=stream,
            now=self.time,
            stored=self._stored,
        )
        self.gateway = Gateway(App(functions=functions), around, documents)

    def time(self) -> float:
        return self.now

    def _stored(self) -> None:
        self.stored += 1

    def token(self, *scopes: str, subject: str = "u-1") -> dict[str, str]:
        """The header of a caller with these scopes."""
        signed = sign(self.auth, subject=subject, scopes=scopes, lifetime_s=3_600, now=self.now)
        return {"authorization": f"Bearer {signed}"}

    @asynccontextmanager
    async def client(self, *scopes: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A caller, with a token when scopes are given ("" for a token without any)."""
        transport = httpx2.ASGITransport(app=self.gateway)  # type: ignore[arg-type]
        headers = self.token(*(scope for scope in scopes if scope)) if scopes else {}
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
            yield client


JSON_DOCUMENT = Rendered(200, {"content-type": "application/json"}, b"{}")
