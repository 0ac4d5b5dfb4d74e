"""What a letter says, whoever it is for, and what it never does."""

from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.letter import Letter, compose, message_id
from handlers.stores.processed import Delivery, Refused

LETTER = Letter("Hello, {name}", ("Dear {name},", "{about} & more.", "Bye"))
DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DELIVERY = Delivery("f/events", "e-1", b"1" * 16)

safe_text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


def written(name: str = "User", *, to: str = "u@example.com", about: str = "it", by: Delivery = DELIVERY) -> bytes:
    return compose(LETTER, {"name": name, "about": about}, by, to=to, date=DATE).as_bytes()


def read(content: bytes) -> EmailMessage:
    parsed: Any = BytesParser(policy=policy.default).parsebytes(content)
    assert not [part.defects for part in parsed.walk() if part.defects]
    return parsed


def body(mail: EmailMessage, kind: str) -> str:
    part: Any = mail.get_body((kind,))
    return str(part.get_content())


class Page(HTMLParser):
    """A page as a reader sees it: its tags, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        assert attrs == []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_letter_is_written_once_and_read_twice() -> None:
    mail = read(written("Zoë ☃", about="<b>"))
    assert mail.get_content_type() == "multipart/alternative"
    assert mail["Subject"] == "Hello, Zoë ☃"
    assert body(mail, "plain") == "Dear Zoë ☃,\n\n<b> & more.\n\nBye\n"
    assert "<p>Dear Zoë ☃,</p>\n<p>&lt;b&gt; &amp; more.</p>\n<p>Bye</p>\n" in body(mail, "html")


def test_the_same_delivery_is_the_same_message_byte_for_byte() -> None:
    assert written() == written(by=Delivery("f/events", "e-1", b"2" * 16))
    others = {
        written(by=Delivery(scope, event_id, b"")) for scope in ("f/events", "f/b") for event_id in ("e-1", "e-2")
    }
    assert len(others) == 4
    mail = read(written())
    assert (mail["Message-ID"], mail["Date"].datetime) == (message_id(DELIVERY), DATE)
    assert mail.get_boundary() == f"=_{message_id(DELIVERY)[1:33]}"


@given(name=safe_text, about=safe_text)
@example(name="x" * 5_000, about="x" * 5_000)
@example(name="=?utf-8?q?=0D=0ABcc:_evil=40example.com?=", about="=?utf-8?b?fQ==?=")
@example(name="--=_18391aaa024a2252710404e1129f07c9", about="x" * 76 + f"--=_{message_id(DELIVERY)[1:33]}--")
@example(name="." * 200, about=" ." * 100)
@example(name="{about}{0.__class__}$name%(name)s", about="</p></body></html>")
@example(name="=cmd|' /C calc'!A0", about="Robert'); DROP TABLE users;-- %_")
@example(name="\u202eevil\u200b\ufeff", about="'\"><script>alert(1)</script><img src=//evil.example/x>")
def test_every_value_is_read_as_it_was_given(name: str, about: str) -> None:
    content = written(name, about=about)
    assert content.isascii()
    assert max(map(len, content.split(b"\n"))) <= 78
    assert b"\r" not in content
    mail = read(content)
    assert len(mail.items()) == 7
    assert mail["Subject"] == f"Hello, {name}"
    assert body(mail, "plain") == f"Dear {name},\n\n{about} & more.\n\nBye\n"
    page = Page(body(mail, "html"))
    assert page.tags == ["html", "body", "p", "p", "p"]
    assert page.text.strip("\n") == f"Dear {name},\n{about} & more.\nBye"


@pytest.mark.parametrize(
    "unsafe", ["\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1b", "\x1e", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
@pytest.mark.parametrize("field", ["name", "about", "to"])
def test_no_value_may_end_its_line(field: str, unsafe: str) -> None:
    for value in (f"u{unsafe}Bcc: evil@example.com", f"u@example.com{unsafe}", f"{unsafe}u@example.com"):
        with pytest.raises(Refused) as caught:
            written(**{field: value})
        assert caught.value.outcome.reason == "injection"
        assert "evil" not in caught.value.outcome.detail


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "@example.com",
        "a@",
        "a@.b",
        "a@b..c",
        "a@b.",
        "a@b, c@d",
        "a@b;c@d",
        "a@b c@d",
        "A <a@b>",
        '"A" <a@b>',
        "<a@b>",
        "a@b>",
        "a@b (c@d)",
        '"a b"@c',
        "a b@c",
        "a@b@c",
        "@evil,@example:a@b",
        "group: a@b;",
        "=?utf-8?q?evil=40x=3e?=@example.com",
        "ä@example.com",
        "\u0430dmin@example.com",
        "a@ex\u0430mple.com",
        "a@b\uff0ec",
        "a\uff20b",
        "a" * 251 + "@b.c",
        ", ".join(["a@example.com"] * 10_000),
        " a@example.com",
        "a@example.com ",
        "a@[127.0.0.1]",
        "a@b_c.example",
    ],
)
def test_an_address_is_exactly_one_of_ascii(address: str) -> None:
    with pytest.raises(Refused) as caught:
        written(to=address)
    assert caught.value.outcome.reason == "injection"


@pytest.mark.parametrize(
    "address",
    ["u-1@example.com", "first.last+tag@mail.example.co", "o'neil/x=y@xn--exmple-cua.com", "a" * 250 + "@b.c"],
)
def test_an_address_is_kept_as_it_is(address: str) -> None:
    assert f"\nTo: {address}\n".encode() in written(to=address)
