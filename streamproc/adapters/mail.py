"""How mail leaves: section `[mail]` of the settings, and a message as bytes."""

from email.errors import MessageError
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streamproc.errors import MailRefused


class MailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[mail]`. What follows `directory` is for SMTP."""

    transport: Annotated[Literal["maildir", "smtp"], Meta(description="to a folder, or to a mail server")] = "maildir"
    directory: Annotated[str, Meta(description="maildir that mail is written to")] = "data/mail"
    host: Annotated[str, Meta(description="of the mail server")] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 25
    tls: Annotated[Literal["none", "starttls", "tls"], Meta(description="starttls and tls check certificates")] = "none"
    ca_file: Annotated[str, Meta(description="certificates to trust instead of the system's")] = ""
    username: Annotated[str, Meta(description="empty: no login")] = ""
    password: Annotated[str, Meta(description="of the login", extra={"secret": True})] = ""
    password_file: Annotated[str, Meta(description="file with the password, read at each connect")] = ""
    connections: Annotated[int, Meta(ge=1, le=100, description="kept connections")] = 4
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="for each step with the mail server")] = 10.0

    def __post_init__(self) -> None:
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other: set one of them")
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("a login needs a username and a password or password_file: set both or none")
        if self.username and self.tls == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("a login over the network needs tls = starttls or tls")


def to_bytes(message: EmailMessage, *, cte_type: Literal["7bit", "8bit"] = "8bit") -> bytes:
    """The message with line ends `\\n` and ASCII headers; its body is ASCII too for `7bit`.

    Raises MailRefused where it cannot be written as mail, as with a header that would end its line.
    """
    for name, value in message.items():
        if not all(line.startswith((" ", "\t")) for line in str(value).splitlines()[1:]):
            raise MailRefused(f"the header {name} holds a line break")
    changes: dict[str, Any] = {"cte_type": cte_type, "linesep": "\n"}
    if isinstance(message.policy, EmailPolicy):
        changes["utf8"] = False
    try:
        return message.as_bytes(policy=message.policy.clone(**changes))
    except (MessageError, ValueError, LookupError) as error:
        raise MailRefused(f"the message cannot be written: {type(error).__name__}") from None
