"""What any Mailer does: one suite for the folder and for SMTP, where a real server says what came over the wire."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from handlers.letter import compose
from handlers.stores.processed import Delivery
from handlers.user_created import WELCOME
from streamproc.adapters.mail import MailOptions
from streamproc.adapters.mailers import open_mailer
from streamproc.errors import MailRefused
from streamproc.ports import Mailer
from tests.contract.mail_server import CUT, MailServer, mail, until

HTML = '<script>alert(1)</script> & "q" \' <img src=http://evil.example/x>'
NAMES = [
    "User",
    "Zoë, of the ☃",
    "李小龙 " * 40,
    "x" * 10_000,
    "ö" * 3_000,
    "😀" * 500,
    ".",
    ". . .",
    "=?utf-8?q?=0D=0ABcc:_evil=40example.com?=",
    "=cmd|' /C calc'!A0",
    "Robert'); DROP TABLE users;--",
    HTML,
    "--=_boundary",
    "http://169.254.169.254/latest/meta-data/",
    "{name} $name %(name)s {0.__class__}",
    " spaced  out ",
    "\u202eevil\u200b\ufeff",
]


@dataclass(frozen=True)
class World:
    """A mailer and what it has delivered, oldest first."""

    mailer: Mailer
    contents: Callable[[], list[bytes]]
    line_end: bytes


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    started = await MailServer().start()
    yield started
    await started.stop()


@pytest.fixture(params=["maildir", "smtp"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, server: MailServer) -> AsyncIterator[World]:
    if request.param == "maildir":
        folder = tmp_path / "new"
        async with open_mailer(MailOptions(directory=str(tmp_path))) as mailer:
            yield World(mailer, lambda: [file.read_bytes() for file in folder.iterdir()], b"\n")
    else:
        async with open_mailer(server.mail_options()) as mailer:
            yield World(mailer, lambda: [mail.content for mail in server.mails], b"\r\n")


def letter(name: str = "User", event_id: str = "e-1") -> EmailMessage:
    delivery = Delivery("send_welcome_email/events", event_id, b"1" * 16)
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return compose(WELCOME, {"name": name}, delivery, to="u-1@example.com", date=date)


def read(content: bytes) -> EmailMessage:
    parsed: Any = BytesParser(policy=policy.default).parsebytes(content)
    assert not [part.defects for part in parsed.walk() if part.defects]
    return parsed


def text_of(mail: EmailMessage, kind: str) -> str:
    body: Any = mail.get_body((kind,))
    return str(body.get_content()).replace("\r\n", "\n")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_what_arrives_is_the_same_letter(world: World, name: str) -> None:
    await world.mailer.send(letter(name))
    (content,) = world.contents()
    mail = read(content)
    assert mail["Subject"] == f"Welcome, {name}"
    assert (mail["From"], mail["To"]) == ("The shop <welcome@shop.example>", "u-1@example.com")
    assert mail["Date"].datetime == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert text_of(mail, "plain") == f"Dear {name},\n\nwelcome to the shop.\n"
    assert "<script" not in text_of(mail, "html")
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_every_byte_is_fit_for_mail(world: World, name: str) -> None:
    message = letter(name)
    await world.mailer.send(message)
    (content,) = world.contents()
    lines = content.split(world.line_end)
    assert lines.pop() == b""
    assert not re.search(rb"[\r\n\0\x80-\xff]", b"".join(lines))
    assert max(map(len, lines)) <= 78
    assert b"\n".join(lines) + b"\n" == message.as_bytes()
    headers = content.partition(world.line_end * 2)[0]
    assert len(re.findall(rb"(?m)^[A-Za-z-]+:", headers)) == 7


@pytest.mark.parametrize(
    "text",
    [
        ".\n",
        "..\n...\n",
        "a\n.\nb\n",
        "a\n.\r\nQUIT\r\n.\r\n",
        ".hidden\n",
        "\n\n.\n\n",
        "a\r\n.\r\nMAIL FROM:<evil@example.com>\r\n",
        "From here\n>From there\n",
        "no line end",
        "",
        "a\rb\n",
    ],
)
async def test_no_body_ends_a_message(world: World, text: str) -> None:
    message = mail()
    message.set_payload(text)
    await world.mailer.send(message)
    (content,) = world.contents()
    assert not re.search(rb"\r(?!\n)", content)
    body = content.partition(world.line_end * 2)[2].decode().replace("\r\n", "\n")
    assert body.rstrip("\n") == re.sub(r"\r\n?", "\n", text).rstrip("\n")


async def test_a_repeat_is_the_same_message(world: World) -> None:
    for event_id in ("e-1", "e-1", "e-2"):
        await world.mailer.send(letter("Zoë", event_id))
    assert len({read(content)["Message-ID"] for content in world.contents()}) == len(set(world.contents())) == 2


async def test_many_at_once_all_arrive(world: World) -> None:
    await asyncio.gather(*(world.mailer.send(letter("User", f"e-{n}")) for n in range(100)))
    assert len({read(content)["Message-ID"] for content in world.contents()}) == 100


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r", "\n\n", "\x0b", "\x1e", "\x85", "\u2028", "\n \n"])
async def test_a_header_that_would_end_its_line_is_refused(world: World, line_end: str) -> None:
    for value in (f"a{line_end}Bcc: evil@example.com", f"a{line_end}evil"):
        with pytest.raises(MailRefused, match=r"^the header Subject holds a line break$"):
            await world.mailer.send(mail(Subject=value))
    await world.mailer.send(mail(Subject="folded\n as it\n\tmay be"))
    (content,) = world.contents()
    assert read(content)["Subject"] == "folded as it\tmay be"


async def test_a_body_that_is_not_text_is_refused(world: World) -> None:
    message = mail()
    message.set_payload("\ud800")
    with pytest.raises(MailRefused, match=r"^the message cannot be written: UnicodeEncodeError$"):
        await world.mailer.send(message)
    assert world.contents() == []


async def test_a_body_of_eight_bits_arrives(world: World) -> None:
    message = EmailMessage(policy=policy.SMTPUTF8)
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Zoë ☃"
    message.set_content("Zoë ☃\n", cte="8bit")
    await world.mailer.send(message)
    (content,) = world.contents()
    assert content.partition(world.line_end * 2)[0].isascii()
    assert "Zoë ☃".encode() in content
    mail = read(content)
    assert (mail["Subject"], mail.get_content().strip()) == ("Zoë ☃", "Zoë ☃")


async def test_after_a_cut_behind_the_final_dot_a_repeat_is_one_copy_more_at_most(server: MailServer) -> None:
    server.faults["end"] = [CUT]
    async with open_mailer(server.mail_options()) as mailer:
        with pytest.raises(OSError, match=r"^mail server 127\.0\.0\.1:\d+: "):
            await mailer.send(letter())
        await mailer.send(letter())
    await until(lambda: not server.open)
    first, second = server.mails
    assert first == second
    assert read(first.content)["Message-ID"] == letter()["Message-ID"]


async def test_nothing_is_contacted_but_the_mail_server(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    contacted: list[object] = []
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def noted_connect(self: socket.socket, address: Any) -> None:
        contacted.append(address[:2])
        connect(self, address)

    def noted_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        contacted.append((host, args[0]))
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", noted_connect)
    monkeypatch.setattr(socket, "getaddrinfo", noted_lookup)

    async def send_all() -> None:
        async with open_mailer(server.mail_options()) as mailer:
            for number, name in enumerate(
                [HTML, "http://169.254.169.254/", "\\\\evil.example\\share", "file:///etc/passwd"]
            ):
                await mailer.send(letter(name, f"e-{number}"))

    await asyncio.to_thread(asyncio.run, send_all())  # on asyncio's own loop, whose sockets are Python's
    assert len(server.mails) == 4
    assert set(contacted) == {("127.0.0.1", server.port)}
