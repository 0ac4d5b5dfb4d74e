"""Two services for each point: one that dies there, and one that finishes; and what has come of it in the end."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.contract.mail_server import MailServer
from tests.integration.api import World, received
from tests.integration.harness import NOTHING, Service, committed, until_true

APP = "tests.integration.crashes.app:app"
AT_ONCE = 4
Ask = Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]]


@dataclass(frozen=True)
class Place:
    """The shop of one point. `count` says how many objects there are, whole or not."""

    world: World
    mails: MailServer | None
    count: Callable[[], int]
    admin: AIOKafkaAdminClient

    def start(self, crash_at: str, env: Mapping[str, str] = NOTHING) -> Service:
        """A service that dies at a point, or at none."""
        return self.world.start(app=APP, env={"CRASH_AT": crash_at, **env})

    @asynccontextmanager
    async def second(
        self, point: str, ask: Ask | None = None, env: Mapping[str, str] = NOTHING
    ) -> AsyncIterator[httpx2.AsyncClient]:
        """Asks a service that dies at a point; yields a caller of another one, once that has settled everything."""
        with self.start(point, env) as service:
            is_answered = ask is None or await self._asked(service, ask)
            assert await service.exit_code() == -signal.SIGKILL
        with self.start("", env) as service:
            async with self.world.client(await service.listening()) as client:
                if not is_answered and ask is not None:
                    answer = await ask(client)
                    assert answer.status_code == 201, answer.text
                await self.settled()
                yield client
            assert await service.stop() == 0

    async def _asked(self, service: Service, ask: Ask) -> bool:
        """Whether it was answered; a caller who was not asks the next service."""
        async with self.world.client(await service.listening()) as client:
            try:
                answer = await ask(client)
            except httpx2.HTTPError:
                return False
        assert answer.status_code == 201, answer.text
        return True

    async def settled(self) -> None:
        """Waits until no event waits, and all records are settled."""
        partition, topic = TopicPartition(self.world.topic, 0), self.world.topic
        async with AIOKafkaConsumer(bootstrap_servers=self.world.bootstrap) as consumer:

            async def is_settled() -> bool:
                [[waiting]] = await self.world.query("SELECT count(*) FROM outbox")
                end = (await consumer.end_offsets([partition]))[partition]
                return waiting == 0 and end > 0 and (await committed(self.admin, topic, topic)).get(0) == end

            await until_true(is_settled, "all records are settled")

    async def end(self) -> dict[str, Any]:
        """What there is on the topics and beside them: event ids, why there are dead letters, copies of each mail.

        The relay may have published an event twice; then its dead letter is there for each of its records.
        """
        events = await self.world.events()
        letters = [letter["__streamproc.errors.condition"] for letter in await self.world.letters()]
        assert len(letters) in (0, len(events))
        effects = self.world.folder / "effects"
        noted = Counter(effects.read_text().splitlines() if effects.exists() else ())
        mails = [count for line, count in noted.items() if line.startswith("<")]
        assert self.mails is None or sorted(received(self.mails).values()) == sorted(mails)
        return {
            "events": len(set(events)),
            "letters": sorted(set(letters)),
            "mails": mails,
        }


Open = Callable[[int], AbstractAsyncContextManager[Place]]


async def at_each(points: Sequence[str], opened: Open, tried: Callable[[Place, str], Awaitable[None]]) -> None:
    """Tries all points, some at once; the failure says the numbers and names of those that failed."""
    places = asyncio.Semaphore(AT_ONCE)
    failed: dict[str, Exception] = {}

    async def one(number: int, point: str) -> None:
        async with places:
            try:
                async with opened(number) as place:
                    await tried(place, point)
            except Exception as error:
                where = f"after a kill at point {number} of {len(points)}: {point}"
                error.add_note(where)
                failed[where] = error

    await asyncio.gather(*starmap(one, enumerate(points, 1)))
    if failed:
        raise ExceptionGroup("\n".join(sorted(failed)), list(failed.values()))
