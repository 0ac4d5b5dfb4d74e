"""SMTP where it goes wrong: refusals, cuts and silence at each step, and addresses that cannot be."""

from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from streamproc.adapters.smtp import SmtpError, SmtpMailer
from streamproc.errors import MailRefused
from tests.contract.mail_server import ANSWERED, CUT, GREETED, HANG, STAGES, MailServer, mail, until


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


@pytest.mark.parametrize("step", [*GREETED, *ANSWERED])
@pytest.mark.parametrize("answer", ["421 4.3.2 shutting down", "451 4.7.1 later"])
async def test_a_refusal_for_now_is_an_error_and_the_next_message_goes_out(
    server: MailServer, mailer: SmtpMailer, step: str, answer: str
) -> None:
    server.faults[step] = [answer]
    assert await failure(mailer) == f"mail server 127.0.0.1:{server.port}: {answer}"
    await mailer.send(mail(2))
    assert [b"<2@x>" in received.content for received in server.mails] == [True]
    reconnects = answer.startswith("421") or step in GREETED
    await until(lambda: len(server.open) == 1)
    assert server.connections == 1 + reconnects
    assert server.commands.count("RSET") == (not reconnects)


@pytest.mark.parametrize("step", ANSWERED)
async def test_a_refusal_for_good_is_about_the_message(server: MailServer, mailer: SmtpMailer, step: str) -> None:
    server.faults[step] = ["550 5.1.1 no such user"]
    with pytest.raises(MailRefused, match=rf"^mail server 127\.0\.0\.1:{server.port}: 550 5\.1\.1 no such user$"):
        await mailer.send(mail())
    await mailer.send(mail(2))
    assert (len(server.mails), server.connections) == (1, 1)


@pytest.mark.parametrize(
    ("step", "answer"),
    [("connect", "554 no"), ("EHLO", "550 no"), ("MAIL", "530 log in first"), ("MAIL", "535 no"), ("RCPT", "538 no")],
)
async def test_a_refusal_for_good_of_all_messages_is_not(
    server: MailServer, mailer: SmtpMailer, step: str, answer: str
) -> None:
    server.faults[step] = [answer]
    assert await failure(mailer) == f"mail server 127.0.0.1:{server.port}: {answer}"


@pytest.mark.parametrize("step", STAGES)
async def test_a_cut_is_an_error_and_a_repeat_arrives(server: MailServer, mailer: SmtpMailer, step: str) -> None:
    server.faults[step] = [CUT]
    await failure(mailer)
    assert len(server.mails) == (step == "end")
    await mailer.send(mail())
    assert {received.content for received in server.mails} == {server.mails[0].content}
    assert len(server.mails) == 1 + (step == "end")


@pytest.mark.parametrize("step", STAGES)
async def test_silence_is_an_error(server: MailServer, step: str) -> None:
    server.faults[step] = [HANG]
    mailer = SmtpMailer(server.mail_options(timeout_s=0.1))
    assert await failure(mailer) == f"mail server 127.0.0.1:{server.port}: no answer within 0.1 s"
    await mailer.send(mail())
    await until(lambda: len(server.open) == 1)
    await mailer.close()


@pytest.mark.parametrize("fault", [CUT, HANG, "421 4.4.2 idle for too long"])
@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
async def test_a_kept_connection_that_has_ended_is_replaced_at_once(server: MailServer, step: str, fault: str) -> None:
    mailer = SmtpMailer(server.mail_options(timeout_s=0.1))
    await mailer.send(mail(1))
    server.faults[step] = [fault]
    await mailer.send(mail(2))
    assert (len(server.mails), server.connections) == (2, 2)
    server.faults[step] = [fault, fault]
    await failure(mailer, 3)
    assert server.faults[step] == []
    await mailer.close()


@pytest.mark.parametrize("step", ["DATA", "content", "end"])
async def test_what_may_have_been_sent_is_not_sent_again_by_itself(
    server: MailServer, mailer: SmtpMailer, step: str
) -> None:
    await mailer.send(mail(1))
    server.faults[step] = [CUT]
    await failure(mailer, 2)
    assert (len(server.mails), server.connections) == (1 + (step == "end"), 1)


@pytest.mark.parametrize("answer", ["hello", "abc def", "450", "450-never\r\n450 ends", "450 " + "x" * 9_000])
async def test_a_strange_answer_is_an_error(server: MailServer, mailer: SmtpMailer, answer: str) -> None:
    server.faults["MAIL"] = [answer]
    assert len(await failure(mailer)) < 300
    await mailer.send(mail(2))
    assert len(server.mails) == 1


async def test_an_answer_is_told_in_one_short_line(server: MailServer, mailer: SmtpMailer) -> None:
    server.faults["RCPT"] = ["450-a\tb\x1b[31m\r\n450-c\r\n450 " + "d" * 500]
    assert await failure(mailer) == f"mail server 127.0.0.1:{server.port}: 450 a b [31m c {'d' * 185}"


async def test_a_mail_server_that_is_gone_is_an_error_until_it_is_back(server: MailServer, mailer: SmtpMailer) -> None:
    await mailer.send(mail(1))
    await server.stop()
    assert "Errno" in await failure(mailer)
    await server.start()
    await mailer.send(mail(2))
    assert len(server.mails) == 2


async def test_a_host_that_does_not_exist_is_an_error(server: MailServer) -> None:
    for host in ("host.invalid", "a..b", "."):
        assert (await failure(SmtpMailer(server.mail_options(host=host)))).startswith(f"mail server {host}:")


async def test_the_envelope_is_that_of_the_headers(server: MailServer, mailer: SmtpMailer) -> None:
    to = '"Doe, John" <john@example.com>, =?utf-8?q?Zo=C3=AB?= <zoe@example.com>'
    message = mail(From="The shop <shop@example.com>", To=to, Cc="<cc@example.com>", Bcc="bcc@example.com")
    await mailer.send(message)
    (received,) = server.mails
    assert received.sender == "shop@example.com"
    assert received.recipients == [f"{name}@example.com" for name in ("john", "zoe", "cc", "bcc")]
    assert b"bcc" not in received.content.lower()
    assert message["Bcc"] == "bcc@example.com"


async def test_a_message_is_for_all_recipients_or_for_none(server: MailServer, mailer: SmtpMailer) -> None:
    for answer in ("550 no such user", "450 later"):
        server.faults["RCPT"] = ["250 OK", answer]
        with pytest.raises((MailRefused, SmtpError)):
            await mailer.send(mail(To="a@example.com, b@example.com"))
    assert server.mails == []


@pytest.mark.parametrize("header", ["From", "To"])
@pytest.mark.parametrize("address", ["", "nobody", "ä@example.com", "a@exämple.com", "a b@c", "<>", "a@b, c"])
async def test_an_address_that_cannot_be_sent_to_is_refused(
    server: MailServer, mailer: SmtpMailer, header: str, address: str
) -> None:
    with pytest.raises(MailRefused, match=rf"^no address, or one that is not ASCII, in {header}$"):
        await mailer.send(mail(**{header: address}))
    assert server.connections == 0


@pytest.mark.parametrize("takes_8_bits", [True, False])
async def test_eight_bits_go_only_to_a_server_that_takes_them(takes_8_bits: bool) -> None:
    server = await MailServer(decode_data=not takes_8_bits).start()
    mailer = SmtpMailer(server.mail_options())
    message = EmailMessage()
    message["From"], message["To"] = "a@example.com", "b@example.com"
    message.set_content("Zoë ☃\n", cte="8bit")
    await mailer.send(message)
    await mailer.send(mail())
    assert [received.content.isascii() for received in server.mails] == [not takes_8_bits, True]
    assert [received.options for received in server.mails] == [["BODY=8BITMIME"] if takes_8_bits else [], []]
    await mailer.close()
    await server.stop()
