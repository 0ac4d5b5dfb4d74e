"""Welcome mails through the whole pipeline, into a real maildir."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest

from handlers.app import app
from handlers.services import Services
from handlers.stores.processed import Delivery, Processed
from handlers.stores.users import User
from handlers.user_created import UserCreated
from streamproc import testing
from streamproc.errors import MailRefused
from streamproc.model import OutRecord
from streamproc.ports import Mailer

Record = Callable[[UserCreated, str], OutRecord]
Mails = Callable[[], list[EmailMessage]]
Query = Callable[[str], list[Any]]


def person(user_id: str, email: str, name: str) -> User:
    return User(user_id, email, name, datetime(2026, 11, 24, tzinfo=UTC))


def user(user_id: str = "u-1", email: str = "", name: str = "User") -> User:
    return User(user_id, email or f"{user_id}@example.com", name, datetime(2026, 1, 1, tzinfo=UTC))


async def welcome(services: Services, *records: Any) -> testing.Result:
    return await testing.run(app, records, services=services)


async def test_a_user_is_welcomed(services: Services, mails: Mails) -> None:
    await services.users.add([person("u-1", "zoe@example.com", "Zoë, of the ☃")])
    result = await welcome(services, UserCreated("u-1"))
    assert result.count("ok") == 1
    (mail,) = mails()
    assert [(address.addr_spec, address.display_name) for address in mail["To"].addresses] == [("zoe@example.com", "")]
    assert mail["Subject"] == "Welcome, Zoë, of the ☃"
    assert mail["Date"].datetime.timestamp() == testing.EPOCH
    for kind in ("plain", "html"):
        part: Any = mail.get_body((kind,))
        assert "Dear Zoë, of the ☃," in part.get_content()


async def test_a_repeat_sends_nothing_and_is_counted(
    services: Services, record: Record, mails: Mails, query: Query
) -> None:
    await services.users.add([person("u-1", "u-1@example.com", "User")])
    result = await welcome(services, *[record(UserCreated("u-1"), "e-1")] * 3, record(UserCreated("u-1"), "e-2"))
    assert result.count("ok") == 4
    assert len({mail["Message-ID"] for mail in mails()}) == len(mails()) == 2
    assert query("SELECT scope, event_id, deliveries FROM processed ORDER BY event_id") == [
        ("send_welcome_email/events", "e-1", 3),
        ("send_welcome_email/events", "e-2", 1),
    ]


class CrashesFirst:
    """Deliveries whose first record is lost, as in a crash after the mail."""

    def __init__(self, processed: Processed) -> None:
        self._processed = processed
        self._crashed = False

    async def claim(self, delivery: Delivery) -> bool:
        return await self._processed.claim(delivery)

    async def record(self, delivery: Delivery) -> None:
        if not self._crashed:
            self._crashed = True
            raise OSError("crashed")
        await self._processed.record(delivery)


async def test_a_crash_after_the_mail_leaves_one_mail(services: Services, mails: Mails) -> None:
    await services.users.add([person("u-1", "u-1@example.com", "User")])
    crashing = replace(services, processed=CrashesFirst(services.processed))
    result = await welcome(crashing, UserCreated("u-1"))
    assert (result.count("ok"), result.count("retried")) == (1, 1)
    assert len(mails()) == 1


async def test_an_unknown_user_is_a_dead_letter(services: Services, mails: Mails, query: Query) -> None:
    result = await welcome(services, UserCreated("u-1"))
    assert result.dead_letters == [testing.DeadLetter("unknown_user", "test-0")]
    assert mails() == []
    assert query("SELECT * FROM processed") == []


async def test_another_event_of_the_same_id_is_a_dead_letter(services: Services, record: Record, mails: Mails) -> None:
    await services.users.add([person("u-1", "u-1@example.com", "One"), person("u-2", "u-2@example.com", "Two")])
    result = await welcome(services, record(UserCreated("u-1"), "e-1"), record(UserCreated("u-2"), "e-1"))
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert [mail["To"] for mail in mails()] == ["u-1@example.com"]


async def test_the_first_of_two_events_of_one_id_at_once_keeps_its_mail(
    services: Services, mails: Mails, query: Query
) -> None:
    users = ["u-1", "u-2"]
    await services.users.add([person(user, f"{user}@example.com", "User") for user in users])
    records = [
        OutRecord("events", testing.envelope(UserCreated(user_id), event_id="e-1"), key=user_id.encode())
        for user_id in users
    ]
    result = await welcome(services, *records)
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert [mail["To"] for mail in mails()] == ["u-1@example.com"]
    assert query("SELECT deliveries FROM processed") == [(1,)]


class Refuses:
    """A mail server that will not take the message."""

    async def send(self, message: EmailMessage) -> None:
        raise MailRefused("550 5.1.1 no such user")


async def test_a_message_the_server_will_never_take_is_a_dead_letter(services: Services, query: Query) -> None:
    await services.users.add([user()])
    result = await welcome(replace(services, mailer=Refuses()), UserCreated("u-1"))
    assert result.dead_letters == [testing.DeadLetter("mail_refused", "test-0")]
    assert "550 5.1.1 no such user" in result.dead_letters[0].message
    assert query("SELECT deliveries FROM processed") == [(0,)]


async def test_what_was_refused_can_be_sent_later(services: Services, mails: Mails, record: Record) -> None:
    await services.users.add([user()])
    again = record(UserCreated("u-1"), "e-1")
    await welcome(replace(services, mailer=Refuses()), again)
    result = await welcome(services, again)
    assert (result.count("ok"), len(mails())) == (1, 1)


class Unavailable:
    """A mail server that is down for a while, and then hands over to the real one."""

    def __init__(self, mailer: Mailer, *, calls: int) -> None:
        self._mailer = mailer
        self._left = calls

    async def send(self, message: EmailMessage) -> None:
        self._left -= 1
        if self._left >= 0:
            raise OSError("421 shutting down")
        await self._mailer.send(message)


async def test_a_server_that_is_down_loses_nothing(services: Services, mails: Mails) -> None:
    await services.users.add([user()])
    result = await welcome(replace(services, mailer=Unavailable(services.mailer, calls=5)), UserCreated("u-1"))
    assert (result.count("ok"), result.count("retried"), result.dead_letters) == (1, 5, [])
    assert len(mails()) == 1


@pytest.mark.parametrize(
    ("email", "name"),
    [("", "a\r\nBcc: evil@example.com"), ("", "a\u2028b"), ("a@b, c@d", "User"), ("a@b\r\nBcc: c@d", "User")],
)
async def test_an_injection_is_a_dead_letter(email: str, name: str, services: Services, mails: Mails) -> None:
    await services.users.add([user("u-1", email, name)])
    result = await welcome(services, UserCreated("u-1"))
    assert result.dead_letters == [testing.DeadLetter("injection", "test-0")]
    assert mails() == []


@pytest.mark.parametrize("event_id", ["../../evil", "a\r\nBcc: evil@example.com", "\u2028", "é" * 256])
async def test_no_event_id_gets_into_a_header_or_a_path(
    event_id: str, services: Services, record: Record, mails: Mails
) -> None:
    await services.users.add([person("u-1", "u-1@example.com", "User")])
    await welcome(services, record(UserCreated("u-1"), event_id))
    (mail,) = mails()
    assert mail["Message-ID"].endswith("@shop.example>")
    assert mail["Bcc"] is None
