"""SMTP connections: how many there are, which are kept, and what is left of a send that was cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiosmtplib.protocol import SMTPProtocol

from streamproc.adapters import smtp
from streamproc.adapters.smtp import SmtpError, SmtpMailer
from tests.contract.mail_server import HANG, STAGES, WAIT, MailServer, mail, until


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    started = await MailServer().start()
    yield started
    await started.stop()


@pytest.fixture
async def mailer(server: MailServer) -> AsyncIterator[SmtpMailer]:
    made = SmtpMailer(server.mail_options())
    yield made
    await made.close()


async def failure(mailer: SmtpMailer, number: int = 1) -> str:
    with pytest.raises(SmtpError) as caught:
        await mailer.send(mail(number))
    return str(caught.value)


async def test_no_more_connections_are_made_than_allowed(server: MailServer) -> None:
    mailer = SmtpMailer(server.mail_options(connections=4))
    queue = list(range(100))

    async def work() -> None:
        while queue:
            await mailer.send(mail(queue.pop()))

    await asyncio.gather(*(work() for _ in range(8)))
    assert (len(server.mails), server.connections, server.open_max) == (100, 4, 4)
    assert set(server.commands) == {"EHLO", "MAIL", "RCPT", "DATA"}
    await mailer.close()
    await until(lambda: not server.open)
    assert server.commands.count("QUIT") == 4


async def test_one_after_the_other_needs_one_connection(server: MailServer, mailer: SmtpMailer) -> None:
    for number in range(5):
        await mailer.send(mail(number))
    assert server.connections == 1


async def test_what_was_given_up_does_not_go_out_later(server: MailServer) -> None:
    mailer = SmtpMailer(server.mail_options(timeout_s=0.1))
    large = mail()
    large.set_payload(("x" * 900 + "\n") * 15_000)
    server.faults["content"] = [WAIT]
    with pytest.raises(SmtpError, match="no answer"):
        await mailer.send(large)
    server.gate.set()
    await until(lambda: not server.open)
    assert server.mails == []


@pytest.mark.parametrize("ended", [0, 1])
async def test_a_kept_connection_is_used_before_a_new_one_is_made(
    server: MailServer, mailer: SmtpMailer, ended: int
) -> None:
    await asyncio.gather(mailer.send(mail(1)), mailer.send(mail(2)))
    sorted(server.open, key=id)[ended].hang_up()
    await until(lambda: len(server.open) == 1)
    await mailer.send(mail(3))
    assert (len(server.mails), server.connections) == (3, 2)


async def test_connections_the_server_has_ended_meanwhile_are_replaced(server: MailServer, mailer: SmtpMailer) -> None:
    for _ in range(2):
        await asyncio.gather(*(mailer.send(mail(number)) for number in range(4)))
        server.hang_up()
        await until(lambda: not server.open)
    assert (len(server.mails), server.connections) == (8, 8)


async def test_a_connection_that_was_idle_for_long_is_replaced(
    server: MailServer, mailer: SmtpMailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mailer.send(mail(1))
    await mailer.send(mail(2))
    assert server.connections == 1
    monkeypatch.setattr(smtp, "IDLE_S", -1.0)
    await mailer.send(mail(3))
    await until(lambda: len(server.open) == 1)
    assert server.connections == 2


@pytest.mark.parametrize("step", STAGES)
async def test_a_send_that_is_cancelled_leaves_no_connection_behind(server: MailServer, step: str) -> None:
    mailer = SmtpMailer(server.mail_options(connections=1))
    for _ in range(3):
        server.faults[step] = [HANG]
        sending = asyncio.ensure_future(mailer.send(mail(1)))
        await until(lambda: server.open and not server.faults[step])
        waiting = asyncio.ensure_future(mailer.send(mail(2)))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await waiting
        await until(lambda: len(server.open) == 1)
        server.hang_up()
        await until(lambda: not server.open)
    assert sum(b"<2@x>" in received.content for received in server.mails) == 3
    await mailer.close()


@pytest.mark.parametrize("answer", range(5))
async def test_a_cancellation_is_heard_at_the_moment_of_an_answer(
    server: MailServer, mailer: SmtpMailer, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    received = SMTPProtocol.data_received
    answers = iter(range(100))

    def receive(self: SMTPProtocol, data: bytes) -> None:
        received(self, data)
        if next(answers) == answer:
            sending.cancel()

    monkeypatch.setattr(SMTPProtocol, "data_received", receive)
    sending = asyncio.ensure_future(mailer.send(mail(1)))
    with pytest.raises(asyncio.CancelledError):
        await sending
    await until(lambda: not server.open)
    await mailer.send(mail(2))
    assert len(server.mails) == 1


async def test_closing_waits_for_what_is_being_sent(server: MailServer, mailer: SmtpMailer) -> None:
    server.faults["end"] = [WAIT]
    sending = asyncio.ensure_future(mailer.send(mail(1)))
    await until(lambda: server.mails)
    closing = asyncio.ensure_future(mailer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    server.gate.set()
    await asyncio.gather(sending, closing)
    await until(lambda: not server.open)
    assert await failure(mailer) == "the mailer is closed"


async def test_closing_does_not_wait_for_ever(
    server: MailServer, mailer: SmtpMailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "CLOSE_S", 0.05)
    await asyncio.gather(mailer.send(mail(1)), mailer.send(mail(2)))
    server.faults["end"] = [HANG]
    sending = asyncio.ensure_future(failure(mailer))
    await until(lambda: len(server.mails) == 3)
    await mailer.close()
    assert "Connection lost" in await sending
    await until(lambda: not server.open)
