"""A real mail server (aiosmtpd) in the test's loop: it keeps what it gets, and misbehaves where it is told to."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import compat32
from functools import partial
from typing import Any, AnyStr, NamedTuple

from aiosmtpd.smtp import SMTP, Envelope, Session

from streamproc.adapters.mail import MailOptions

GREETED = ["connect", "EHLO"]
ANSWERED = ["MAIL", "RCPT", "DATA", "end"]
STAGES = [*GREETED, *ANSWERED, "content"]
"""Of a message without TLS and login: `end` is after the final dot, `content` before it."""
CUT, HANG, WAIT = "cut", "hang", "wait"
"""Ends the connection; never answers; answers once `gate` is set."""


class Received(NamedTuple):
    """A message as it came over the wire, without the dots that SMTP adds."""

    sender: str
    recipients: list[str]
    options: list[str]
    content: bytes


class MailServer:
    """Listens on 127.0.0.1. `options` are aiosmtpd's; `ssl` is for TLS from the first byte.

    `faults` has, by stage or command, what comes instead of the next good answers: others, or CUT, HANG and WAIT.
    """

    def __init__(self, *, ssl: ssl.SSLContext | None = None, **options: Any) -> None:
        self.mails: list[Received] = []
        self.commands: list[str] = []
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.gate = asyncio.Event()
        self.connections = 0
        self.open: set[_Session] = set()
        self.open_max = 0
        self.port = 0
        self._options = options
        self._ssl = ssl

    async def start(self) -> "MailServer":
        """On a free port, and on the same one after a stop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Ends all connections too."""
        self._server.close()
        self.hang_up()
        await until(lambda: not self.open)

    def hang_up(self) -> None:
        """Ends all connections, as servers do with idle ones."""
        for session in list(self.open):
            session.hang_up()

    def mail_options(self, **options: Any) -> MailOptions:
        """Settings for this server."""
        return MailOptions(**{"transport": "smtp", "host": "127.0.0.1", "port": self.port, "timeout_s": 5.0, **options})

    def _session(self) -> "_Session":
        return _Session(self, self._options)

    async def handle_DATA(self, session: "_Session", _: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook after the final dot."""
        fault = self.faults["end"].pop(0) if self.faults["end"] else ""
        if not fault.startswith(("4", "5")):
            content = envelope.original_content or b""
            received = Received(str(envelope.mail_from), envelope.rcpt_tos, envelope.mail_options, content)
            self.mails.append(received)
        return fault if await session.answers(fault) else "250 OK"


class _Session(SMTP):
    """One connection."""

    def __init__(self, server: MailServer, options: dict[str, Any]) -> None:
        super().__init__(server, hostname="mail.test", loop=asyncio.get_running_loop(), **options)
        self._kept_by = server
        self._smtp_methods = {name: partial(self._command, name, call) for name, call in self._smtp_methods.items()}

    async def _handle_client(self) -> None:
        server = self._kept_by
        server.connections += 1
        server.open.add(self)
        server.open_max = max(server.open_max, len(server.open))
        try:
            if not await self._misbehaves("connect"):
                await super()._handle_client()
        finally:
            server.open.discard(self)
            if self.transport is not None:
                self.transport.close()

    def hang_up(self) -> None:
        """Ends the connection, whatever TLS is doing on it."""
        transport: Any = self._original_transport or self.transport
        transport.abort()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    async def _command(self, name: str, call: Callable[[str], Any], argument: str) -> None:
        self._kept_by.commands.append(name)
        if not await self._misbehaves(name):
            await call(argument)

    async def _misbehaves(self, stage: str) -> bool:
        faults = self._kept_by.faults[stage]
        fault = faults.pop(0) if faults else ""
        if not await self.answers(fault):
            return False
        await self.push(fault)
        if stage == "connect" or fault.startswith("421"):
            self.transport.close()
        return True

    async def push(self, status: AnyStr) -> None:
        await super().push(status)
        if self._kept_by.faults["content"] and status[:3] in ("354", b"354"):
            await self.answers(self._kept_by.faults["content"].pop(0))

    async def answers(self, fault: str) -> bool:
        """Does what the fault says; True when it is an answer."""
        if fault == WAIT:
            await self._kept_by.gate.wait()
        elif fault in (CUT, HANG):
            if fault == CUT:
                self.transport.abort()
            await asyncio.Event().wait()  # cancelled when the connection is lost
        return fault not in ("", WAIT)


def mail(number: int = 1, **headers: str) -> EmailMessage:
    """A small message; a header that is given replaces the one it has."""
    message = EmailMessage(policy=compat32)
    given = {"From": "a@example.com", "To": "b@example.com", "Message-ID": f"<{number}@x>", **headers}
    for header, value in given.items():
        message[header] = value
    message.set_payload("hello\n")
    return message


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
