"""An API as a contender: ours in the whole service, or Starlette by hand. `callers.py` calls it.

Modes: `get` answers a small object, `post` registers a user with the event that follows, both behind a token;
`hand-get` and `hand-post` are the same in Starlette without one, the latter with asyncpg: two inserts, one transaction.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from bench.report import Meter, Task
from streamproc import Answer, App, Created, Http, HttpContext, Problem
from streamproc.adapters.logs import configure
from streamproc.service import run
from streamproc.settings import load, secrets

POOL = 10


@dataclass(frozen=True)
class WebTask(Task):
    """Also: the port to listen on, the file with the secret, the store and its password, and whether events are
    published (0 or 1)."""

    port: int = 0
    secret: str = ""
    store: str = ""
    password: str = ""
    publish: int = 0
    log: int = 0


class Card(Answer):
    """A small answer."""

    id: str
    email: str
    name: str


def getting(meter: Meter) -> App:
    """One function that looks nothing up."""

    async def get_card(id: str, ctx: HttpContext[None]) -> Card:
        meter.add(1)
        return Card(id=id, email="ada@example.com", name="Ada")

    return App(functions=[Http("GET", "/users/{id}", get_card, scope="users:read")])


def registering(meter: Meter, *, publish: bool) -> App:
    """The application's own function, counted."""
    from handlers.app import app
    from handlers.services import Services
    from handlers.users import NewUser, UserView, create_user

    async def create(new: NewUser, ctx: HttpContext[Services]) -> Created[UserView] | Problem:
        answer = await create_user(new, ctx)
        meter.add(isinstance(answer, Created))
        return answer

    functions = [Http("POST", "/users", create, scope="users:write")]
    return replace(app, functions=functions, outbox=app.outbox if publish else None)


def ours(meter: Meter, task: WebTask) -> int:
    """The whole service."""
    app = getting(meter) if task.mode == "get" else registering(meter, publish=bool(task.publish))
    flags = {
        "kafka.bootstrap_servers": [task.bootstrap],
        "stream.topics": [task.topic],
        "http.listen": f"127.0.0.1:{task.port}",
        "http.access_log": bool(task.log),
        "auth.secret_file": task.secret,
        "auth.development": True,
        "ops.listen": "127.0.0.1:0",
        "store.url": task.store or f"sqlite:///{task.report.parent}/store.db",
        "store.password": task.password,
        "mail.directory": str(task.report.parent / "mail"),
    }
    settings = load(None, {}, flags=flags).settings
    configure(settings.log, secrets(settings))
    return run(app, settings, only="http")


def by_hand(meter: Meter, task: WebTask) -> None:
    """Starlette on the same server, with the same parser of HTTP and the same event loop."""
    import asyncpg
    import uvicorn
    from starlette.applications import Starlette

    @asynccontextmanager
    async def with_pool(app: Starlette) -> AsyncIterator[None]:
        async with asyncpg.create_pool(task.store, password=task.password, min_size=POOL, max_size=POOL) as pool:
            app.state.pool = pool
            yield

    if task.mode == "hand-get":
        app = Starlette(routes=[_hand_get(meter)])
    else:
        app = Starlette(routes=[_hand_post(meter, task)], lifespan=with_pool)
    options: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "log_level": "warning", "access_log": False}
    uvicorn.run(app, port=task.port, ws="none", proxy_headers=False, server_header=False, **options)


def _hand_get(meter: Meter) -> Any:
    import msgspec
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def get_card(request: Request) -> Response:
        meter.add(1)
        card = Card(id=request.path_params["id"], email="ada@example.com", name="Ada")
        return Response(msgspec.json.encode(card), media_type="application/json")

    return Route("/users/{id}", get_card)


def _hand_post(meter: Meter, task: WebTask) -> Any:
    import uuid
    from datetime import UTC, datetime

    import msgspec
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from handlers.users import NewUser, UserView

    decode = msgspec.json.Decoder(NewUser).decode
    user = "INSERT INTO users (user_id, email, email_key, name, created_at) VALUES ($1, $2, $3, $4, $5)"
    event = "INSERT INTO outbox (topic, key, value, headers) VALUES ($1, $2, $3, $4)"

    async def create(request: Request) -> Response:
        pool = request.app.state.pool
        new = decode(await request.body())
        made = UserView(id=str(uuid.uuid4()), email=new.email, name=new.name, created_at=datetime.now(UTC))
        told = msgspec.json.encode({"type": "user.created", "userId": made.id})
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(user, made.id, made.email, made.email.casefold(), made.name, made.created_at)
            await connection.execute(event, task.topic, made.id.encode(), told, b"\x90")
        meter.add(1)
        headers = {"location": f"/users/{made.id}"}
        return Response(msgspec.json.encode(made), 201, headers, media_type="application/json")

    return Route("/users", create, methods=["POST"])


def main(task: WebTask) -> int:
    """Serves until it is ended."""
    meter = Meter(task)
    if task.mode.startswith("hand-"):
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            by_hand(meter, task)
        return 0
    return ours(meter, task)


if __name__ == "__main__":
    sys.exit(main(WebTask.from_arguments()))
