"""Mail by SMTP over a few kept connections, each of which sends one message at a time."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from copy import copy
from email.message import EmailMessage
from email.utils import getaddresses
from typing import NamedTuple, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from streamproc.adapters.mail import MailOptions, to_bytes
from streamproc.errors import ConfigError, MailRefused
from streamproc.secret import read_secret

IDLE_S = 60.0
"""A connection that was idle for longer is replaced: servers end them after a few minutes."""
CLOSE_S = 5.0
"""What sends under way get to end when the mailer is closed."""
TEXT_MAX = 200
"""Characters that are kept of a server's answer."""

_ADDRESS = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_SHUTTING_DOWN = 421
_LOGIN_MISSING = frozenset({530, 534, 535, 538})
"""Answers that blame the login and not the message (RFC 4954)."""


class SmtpError(OSError):
    """The mail server did not take the message now: sending it again may help."""


class SmtpMailer:
    """A Mailer that hands messages to a mail server; `open_mailer` makes it."""

    def __init__(self, options: MailOptions) -> None:
        """Connects at the first send. Raises ConfigError where the certificates or the password cannot be read."""
        self._options = options
        self._tls = _tls_context(options)
        self._password()
        self._free = asyncio.Semaphore(options.connections)
        self._kept: list[_Connection] = []
        self._connected: set[_Connection] = set()
        self._closed = False

    async def send(self, message: EmailMessage) -> None:
        """See the port. The envelope is what From, To, Cc and Bcc say; a message is for all recipients or for none."""
        mail = _Mail(message, _addresses(message, "From")[0], _addresses(message, "To", "Cc", "Bcc"))
        async with self._free:
            kept = self._take()
            if kept is not None:
                try:
                    return await self._use(kept, mail)
                except SmtpError:  # a kept connection may have ended unseen: then a new one is tried at once
                    if kept.is_ready or kept.data_begun:
                        raise
            await self._use(await self._connect(), mail)

    async def close(self) -> None:
        """Waits for sends under way, 5 seconds at most, and takes leave of the server."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S), AsyncExitStack() as stack:
                for _ in range(self._options.connections):
                    await stack.enter_async_context(self._free)
                await asyncio.gather(*(connection.quit() for connection in self._kept))
        for connection in list(self._connected):
            self._drop(connection)

    def _take(self) -> "_Connection | None":
        """The kept connection that was used last, None when there is no good one."""
        now = asyncio.get_running_loop().time()
        while self._kept:
            connection = self._kept.pop()
            if connection.is_open and now - connection.idle_since <= IDLE_S:
                return connection
            self._drop(connection)
        return None

    async def _use(self, connection: "_Connection", mail: "_Mail") -> None:
        """Sends on a connection and keeps it when it is ready for the next message."""
        try:
            await connection.send(mail)
        except SMTPResponseException as error:
            await connection.reset(error.code)
            raise self._of_answer(error) from None
        except (SMTPException, OSError) as error:
            raise self._of_failure(error) from None
        finally:
            if connection.is_ready and connection.is_open and not self._closed:
                connection.idle_since = asyncio.get_running_loop().time()
                self._kept.append(connection)
            else:
                self._drop(connection)

    def _drop(self, connection: "_Connection") -> None:
        self._connected.discard(connection)
        connection.drop()

    async def _connect(self) -> "_Connection":
        if self._closed:
            raise SmtpError("the mailer is closed")
        options = self._options
        smtp = SMTP(
            hostname=options.host,
            port=options.port,
            timeout=None,  # Python 3.11's wait_for(), which the library calls, may swallow a cancellation
            use_tls=options.tls == "tls",
            start_tls=False,  # each step is made below: the library would go on where the server refuses EHLO
            tls_context=self._tls,
            local_hostname="localhost",
        )
        try:
            await _in_time(smtp.connect(), options.timeout_s)
            await self._greet(smtp)
        except (SMTPException, OSError, ValueError) as error:
            smtp.close()
            raise self._of_failure(error) from None
        except BaseException:
            smtp.close()
            raise
        connection = _Connection(smtp, options.timeout_s)
        self._connected.add(connection)
        return connection

    async def _greet(self, smtp: SMTP) -> None:
        name, timeout_s = _own_name(smtp), self._options.timeout_s
        await _in_time(smtp.ehlo(hostname=name), timeout_s)
        if self._options.tls == "starttls":
            await _in_time(smtp.starttls(), timeout_s)
            await _in_time(smtp.ehlo(hostname=name), timeout_s)
        if self._options.username:
            await self._log_in(smtp)

    async def _log_in(self, smtp: SMTP) -> None:
        try:
            password = await asyncio.to_thread(self._password)
            await _in_time(smtp.login(self._options.username, password), self._options.timeout_s)
        except ConfigError as error:
            raise SmtpError(str(error)) from None
        except SMTPResponseException as error:  # its text may repeat what was sent
            what = "the credentials are refused" if error.code // 100 == 5 else "the login failed"
            raise SmtpError(f"{what} ({error.code})") from None

    def _password(self) -> str:
        file = self._options.password_file
        return read_secret(file, "mail.password_file") if file else self._options.password

    def _of_answer(self, error: SMTPResponseException) -> SmtpError | MailRefused:
        text = self._told(f"{error.code} {error.message}")
        is_final = error.code // 100 == 5 and error.code not in _LOGIN_MISSING
        return MailRefused(text) if is_final else SmtpError(text)

    def _of_failure(self, error: Exception) -> SmtpError:
        if isinstance(error, TimeoutError):
            return SmtpError(self._told(f"no answer within {self._options.timeout_s:g} s"))
        if isinstance(error, SMTPResponseException):
            return SmtpError(self._told(f"{error.code} {error.message}"))
        return SmtpError(self._told(str(error.__cause__ or error)))

    def _told(self, text: str) -> str:
        shown = "".join(char if char.isprintable() else " " for char in text[:TEXT_MAX])
        return f"mail server {self._options.host}:{self._options.port}: {shown}"


class _Mail(NamedTuple):
    """A message and its envelope."""

    message: EmailMessage
    sender: str
    recipients: Sequence[str]


class _Connection:
    """A connection to the server; `is_ready` for a message unless it was left in the middle of one."""

    def __init__(self, smtp: SMTP, timeout_s: float) -> None:
        self._smtp = smtp
        self._timeout_s = timeout_s
        self._transport = cast(asyncio.WriteTransport, smtp.transport)
        self.is_ready = True
        self.data_begun = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._smtp.is_connected

    async def send(self, mail: _Mail) -> None:
        """Sends a message. After an error that is no answer, it may have been taken if `data_begun`."""
        content = self._content(mail.message)
        self.is_ready = self.data_begun = False
        options = [] if content.isascii() else ["BODY=8BITMIME"]
        await _in_time(self._smtp.mail(mail.sender, options=options), self._timeout_s)
        for recipient in mail.recipients:
            await _in_time(self._smtp.rcpt(recipient), self._timeout_s)
        self.data_begun = True
        await _in_time(self._smtp.data(content), self._timeout_s)
        self.is_ready = True

    def _content(self, message: EmailMessage) -> bytes:
        if message["Bcc"] is not None:
            message = copy(message)
            del message["Bcc"]
        return to_bytes(message, cte_type="8bit" if self._smtp.supports_extension("8bitmime") else "7bit")

    async def reset(self, code: int) -> None:
        """Makes the connection ready again after a refusal, where that can be done."""
        if code // 100 in (4, 5) and code != _SHUTTING_DOWN:
            with suppress(SMTPException, OSError):
                await _in_time(self._smtp.rset(), self._timeout_s)
                self.is_ready = True

    async def quit(self) -> None:
        """Takes leave. Never raises."""
        with suppress(SMTPException, OSError):
            await self._smtp.quit()

    def drop(self) -> None:
        """Ends the connection at once: what was not yet sent is not sent later."""
        self._transport.abort()


async def _in_time(step: Awaitable[object], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await step


def _addresses(message: EmailMessage, *headers: str) -> list[str]:
    values = [str(value) for header in headers for value in message.get_all(header, [])]
    found = [address for _, address in getaddresses(values)]
    if not found or not all(map(_ADDRESS.fullmatch, found)):
        raise MailRefused(f"no address, or one that is not ASCII, in {headers[0]}")
    return found


def _own_name(smtp: SMTP) -> str:
    """What to greet with: the full name of this machine, else its address; the DNS is not asked."""
    name = socket.gethostname()
    if _FULL_NAME.fullmatch(name):
        return name
    address = str(smtp.get_transport_info("sockname")[0])
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _tls_context(options: MailOptions) -> ssl.SSLContext | None:
    if options.tls == "none":
        return None
    try:
        return ssl.create_default_context(cafile=options.ca_file or None)
    except OSError as error:
        raise ConfigError(f"mail.ca_file: cannot read {options.ca_file!r}: {error.strerror or error}") from None
