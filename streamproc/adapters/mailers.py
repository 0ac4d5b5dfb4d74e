"""The mailer that section `[mail]` of the settings asks for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamproc.adapters.mail import MailOptions
from streamproc.adapters.maildir import Maildir
from streamproc.errors import ConfigError
from streamproc.ports import Mailer

if TYPE_CHECKING:
    from streamproc.adapters.smtp import SmtpMailer


@asynccontextmanager
async def open_mailer(options: MailOptions) -> AsyncIterator[Mailer]:
    """Opens it; at the end, sends under way are waited for. Raises ConfigError."""
    mailer = _smtp(options) if options.transport == "smtp" else Maildir(options.directory)
    try:
        yield mailer
    finally:
        await mailer.close()


def _smtp(options: MailOptions) -> "SmtpMailer":
    try:
        from streamproc.adapters.smtp import SmtpMailer
    except ModuleNotFoundError as error:
        if error.name != "aiosmtplib":
            raise
        raise ConfigError("mail.transport: smtp needs the extra: pip install 'streamproc[smtp]'") from None
    return SmtpMailer(options)
