"""The application's API served by real processes: requests and records apart, one relay, several on one port."""

import secrets
import signal
import time

import pytest

from streamproc.adapters.broker_files import free_port
from tests.contract.mail_server import MailServer
from tests.integration.api import ACTIVE, World, active_relay, on_sqlite, received, sign_up, sign_up_past_the_services
from tests.integration.harness import Service, get, metrics, until, until_true

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


def check_front(service: Service, topic: str) -> None:
    """It answered a request and read nothing."""
    shown = metrics(service.address())
    assert get(f"http://{service.address()}/readyz")[0] == 200
    assert shown['streamproc_http_requests_total{function="create_user",status="201"}'] == 1
    assert [name for name in shown if "records_total" in name or topic in name] == []


def check_back(service: Service, topic: str) -> None:
    """It handled a record and answers nobody."""
    shown = metrics(service.address())
    assert get(f"http://{service.address()}/readyz")[0] == 200
    assert shown[f'streamproc_records_total{{event_type="user.created",outcome="ok",topic="{topic}"}}'] == 1
    assert [name for name in shown if "http" in name] == []
    assert service.address("answering") == ""


@pytest.mark.parametrize("order", [("http", "stream"), ("stream", "http")], ids="-then-".join)
async def test_requests_and_records_have_processes_of_their_own_and_one_of_them_is_the_relay(
    world: World, mails: MailServer, order: tuple[str, str]
) -> None:
    with world.start(only=order[0]) as first:
        await first.ready()
        with world.start(only=order[1]) as second:
            await second.ready()
            front, back = (first, second) if order[0] == "http" else (second, first)
            assert await active_relay([first, second]) is first
            async with world.client(await front.listening()) as client:
                user = await sign_up(client, "ann")
            await until_true(world.is_done, "the user is welcomed")
            assert [recipient for recipient, _ in received(mails).elements()] == ["ann@example.com"]
            check_front(front, world.topic)
            check_back(back, world.topic)
            first.signal(signal.SIGKILL)
            await sign_up_past_the_services(world, "u-bob")
            await until(lambda: metrics(second.address())["streamproc_outbox_published_total"] == 1, "it is published")
            assert metrics(second.address())[ACTIVE] == 1
            assert sorted(await world.events()) == sorted([user, "u-bob"])
            assert await second.stop() == 0


@on_sqlite
async def test_two_workers_answer_on_one_port_and_end_together(world: World) -> None:
    port = free_port()
    with world.start(stream__workers=2, http__listen=f"127.0.0.1:{port}") as service:
        await until(lambda: len(service.addresses("answering")) == 2, "both workers listen")
        for _ in range(40):  # the system spreads connections, so each has its own
            async with world.client(f"127.0.0.1:{port}") as client:
                assert (await client.get("/users")).status_code == 200
        name = 'streamproc_http_requests_total{function="list_users",status="200"}'
        counts = [metrics(address).get(name, 0) for address in service.addresses()]
        assert sum(counts) == 40
        assert min(counts) > 0
        assert await service.stop() == 0
        assert [get(f"http://{address}/livez")[0] for address in service.addresses()] == [0, 0]
        assert get(f"http://127.0.0.1:{port}/users")[0] == 0
    assert service.log.read_text().count('"stopped"') == 2


@on_sqlite
async def test_a_new_secret_counts_within_two_seconds(world: World) -> None:
    with world.start(only="http") as service:
        address = await service.listening()
        async with world.client(address) as old:
            assert (await old.get("/users")).status_code == 200
            world.secret.write_text(secrets.token_hex(32))
            async with world.client(address) as new:
                changed = time.monotonic()
                while (await new.get("/users")).status_code != 200:
                    assert time.monotonic() < changed + 2
            assert (await old.get("/users")).status_code == 401
        assert await service.stop() == 0


@on_sqlite
async def test_mail_that_is_refused_for_now_is_sent_once_and_for_good_is_a_dead_letter(
    world: World, mails: MailServer
) -> None:
    mails.faults.update({"RCPT": ["451 later", "451 later"], "DATA": ["451 later"], "end": ["451 later"]})
    with world.start() as service:
        async with world.client(await service.listening()) as client:
            await sign_up(client, "ann")
            await until_true(world.is_done, "the mail is taken")
            assert not any(mails.faults.values())
            mails.faults["RCPT"] = ["550 nobody of this name"]
            await sign_up(client, "bob")
            await until(lambda: not mails.faults["RCPT"], "the server refuses it")
            await sign_up(client, "cat")

        async def settled() -> bool:
            return len(received(mails)) == 2 and len(await world.letters()) == 1

        await until_true(settled, "all three are settled")
        assert await service.stop() == 0
    assert sorted(to for to, _ in received(mails).elements()) == ["ann@example.com", "cat@example.com"]
    (letter,) = await world.letters()
    assert letter["__streamproc.errors.condition"] == "mail_refused"
    assert "550 nobody of this name" in letter["__streamproc.errors.message"]
