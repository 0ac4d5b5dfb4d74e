"""How mail leaves: section `[mail]` of the settings."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


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
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="for each answer of the mail server")] = 10.0

    def __post_init__(self) -> None:
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other: set one of them")
        if self.username and self.tls == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("a login over the network needs tls = starttls or tls")
