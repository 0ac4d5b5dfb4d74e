"""How this application writes mail: a letter is a subject and paragraphs, sent as text and as HTML."""

import hashlib
import re
from binascii import b2a_qp
from collections.abc import Mapping
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import Compat32
from email.utils import format_datetime
from html import escape
from typing import Any, NamedTuple

from handlers.stores.processed import Delivery, Refused

SENDER = "The shop <welcome@shop.example>"
DOMAIN = "shop.example"
OPERATORS = "operations@shop.example"
"""Who is told of alerts, and gets reports, where the settings name nobody."""

_ADDRESS = re.compile(r"(?=.{1,254}\Z)(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"(?!.*=\?)[!-~](?:[ -~]{0,58}[!-~])?")


class _Verbatim(Compat32):
    """Writes headers as they are given: `compose` has made each of them fit. The default would parse and fold them."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        return f"{name}: {value}{self.linesep}".encode("ascii")


_POLICY = _Verbatim()

_PART = """--{boundary}
Content-Type: text/{kind}; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

{text}"""
_PAGE = """<!DOCTYPE html>
<html><body>
{paragraphs}</body></html>
"""


class Letter(NamedTuple):
    """What a kind of letter says; `{name}` stands for the value of that name."""

    subject: str
    paragraphs: tuple[str, ...]


def compose(letter: Letter, values: Mapping[str, str], delivery: Delivery, *, to: str, date: datetime) -> EmailMessage:
    """The message, byte for byte the same for the same delivery.

    Raises Refused unless `to` is exactly one address, and for a value that could break out of its line.
    """
    if not _ADDRESS.fullmatch(to):
        raise Refused("injection", "the address is not exactly one address")
    if any(map(_UNSAFE.search, values.values())):
        raise Refused("injection", "a value holds control characters")
    this = message_id(delivery)
    message = EmailMessage(policy=_POLICY)
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = _header(letter.subject.format_map(values))
    message["Date"] = format_datetime(date)
    message["Message-ID"] = this
    message["MIME-Version"] = "1.0"
    boundary = f"=_{this[1:33]}"  # "=_" occurs in no quoted-printable text
    message["Content-Type"] = f'multipart/alternative;\n boundary="{boundary}"'
    message.set_payload(_body([paragraph.format_map(values) for paragraph in letter.paragraphs], boundary))
    return message


def message_id(delivery: Delivery) -> str:
    """A Message-ID that says nothing of the event but is the same for the same delivery."""
    digest = hashlib.sha256(f"{delivery.scope}\0{delivery.event_id}".encode()).hexdigest()
    return f"<{digest[:32]}@{DOMAIN}>"


def _header(text: str) -> str:
    """The text as it stands, or as encoded words where a reader would take it for something else."""
    return text if _PLAIN.fullmatch(text) else Header(text, "utf-8", header_name="Subject").encode()


def _body(paragraphs: list[str], boundary: str) -> str:
    """Both parts, written out here: parts that are messages of their own would double the cost of a letter."""
    text = "\n\n".join(paragraphs) + "\n"
    page = _PAGE.format(paragraphs="".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in paragraphs))
    parts = (
        _PART.format(boundary=boundary, kind=kind, text=b2a_qp(content.encode(), istext=True).decode("ascii"))
        for kind, content in (("plain", text), ("html", page))
    )
    return "\n".join((*parts, f"--{boundary}--\n"))
