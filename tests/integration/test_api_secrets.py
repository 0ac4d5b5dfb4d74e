"""No secret is shown by a service that logs all it can, whatever is sent to it and whatever fails behind it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.contract.mail_server import MailServer
from tests.integration.api import World, mail_server, on_postgres, sign_up
from tests.integration.harness import PATIENCE_S, Service, get, publish, until_true

pytestmark = [
    pytest.mark.broker,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]
MAIL_PASSWORD = "canary-of-the-mail-server"
OTHER_PASSWORD = "canary-of-another-database"


def login(*parts: object) -> AuthResult:
    """aiosmtpd's authenticator."""
    given = parts[-1]
    assert isinstance(given, LoginPassword)
    return AuthResult(success=given.password == MAIL_PASSWORD.encode(), handled=False)


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    """A mail server that refuses the first logins, of either kind, and repeats their password."""
    async with mail_server(authenticator=login, auth_required=True, auth_require_tls=False) as server:
        server.faults["AUTH"] = [f"535 the password {MAIL_PASSWORD} is wrong"] * 2
        yield server


@pytest.fixture
def password(world: World, tmp_path: Path) -> str:
    """That of the database, which the shop has in a file; that of the mail server it has in its settings."""
    file, password = tmp_path / "password", str(world.settings.pop("store.password"))
    file.write_text(password)
    world.settings |= {"store.password_file": str(file), "mail.username": "shop", "mail.password": MAIL_PASSWORD}
    return password


async def set_password(world: World, password: str) -> None:
    """Changes the password of the application's role, and ends its sessions."""
    role = world.loaded.store.url.partition("//")[2].partition("@")[0]
    await world.query(f"ALTER ROLE {role} PASSWORD '{password}'")
    await world.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")  # noqa: S608


async def misuse(client: httpx2.AsyncClient, token: str) -> list[httpx2.Response]:
    """The answers to requests with a token where it should not be, or with one that is none."""
    heads = [f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}", token]
    return [
        *[await client.get("/users", headers={"authorization": head}) for head in heads],
        await client.get("/users", params={"limit": token, "next": token}),
        await client.post("/users", json={"email": token, "name": token}),
        await client.post("/orders", json={"userId": token, "items": []}),
        await client.post("/readings", content=token),
    ]


async def answered(client: httpx2.AsyncClient, status: int) -> httpx2.Response:
    """The first answer of this status."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await client.get("/users")).status_code != status:
            await asyncio.sleep(0.05)
    return answer


async def shown(world: World, service: Service, answers: list[httpx2.Response]) -> dict[str, str]:
    """All that can be seen from outside."""
    return {
        "log": service.log.read_text(),
        "metrics": get(f"http://{service.address()}/metrics")[1],
        "partitions": get(f"http://{service.address()}/debug/partitions")[1],
        "answers": "\n".join(f"{answer.headers} {answer.text}" for answer in answers),
        "headers": str(await world.letters()),
    }


@on_postgres
async def test_no_secret_is_shown(world: World, mails: MailServer, password: str) -> None:
    token = world.token()

    async def are_dead() -> bool:
        return len(await world.letters()) == 2

    with world.start(log__level="debug") as service:
        async with world.client(await service.listening()) as client:
            await sign_up(client, "ann")
            await until_true(world.is_done, "ann is welcomed, after a second login")
            mails.faults["RCPT"] = [f"550 the password is {MAIL_PASSWORD}"]
            await sign_up(client, "bob")
            await publish(world.bootstrap, world.topic, [token.encode()])
            await until_true(are_dead, "bob's mail and the record are dead letters")
            answers = await misuse(client, token)
            await set_password(world, OTHER_PASSWORD)
            answers.append(await answered(client, 503))
            await set_password(world, password)
            await answered(client, 200)
        seen = await shown(world, service, answers)
        assert await service.stop() == 0
    assert {answer.status_code for answer in answers} == {400, 401, 415, 503}
    assert "send_welcome_email failed: SmtpError" in seen["log"]
    assert "InvalidPasswordError" in seen["log"]
    assert "550 the password is ***" in seen["headers"]
    words = [*token.split("."), world.secret.read_text(), password, OTHER_PASSWORD, MAIL_PASSWORD]
    words.append(base64.b64encode(f"\0shop\0{MAIL_PASSWORD}".encode()).decode())
    assert [(where, word) for where, text in seen.items() for word in words if word in text] == []
