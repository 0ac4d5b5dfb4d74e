"""kill -9 between a request and the mail that follows from it: nothing is lost, and each effect happens once."""

from typing import Any

import httpx2
import pytest

from tests.integration.crashes.points import REQUEST
from tests.integration.crashes.run import Open, Place, at_each

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def sign_up(client: httpx2.AsyncClient) -> httpx2.Response:
    """A request that may be repeated."""
    body: dict[str, Any] = {"email": "a@example.com", "name": "A"}
    return await client.post("/users", json=body, headers={"idempotency-key": "a"})


async def test_a_user_is_stored_once_and_welcomed_once_after_a_kill_at_any_point(opened: Open) -> None:
    async def tried(place: Place, point: str) -> None:
        async with place.second(point, sign_up) as client:
            users = (await client.get("/users")).json()["users"]
        assert sorted(user["email"] for user in users) == ["a@example.com", "u-0@example.com"]
        copies = 2 if point == "mailed, not recorded" else 1
        assert await place.end() == {"events": 1, "letters": [], "mails": [copies]}
        assert len(await place.world.events()) >= (2 if point == "published, not removed from the outbox" else 1)

    await at_each(REQUEST, opened, tried)
