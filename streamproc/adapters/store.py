"""Where rows are kept: section `[store]` of the settings."""

from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc.secret import holds_password


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`. The last four are for PostgreSQL."""

    url: Annotated[
        str,
        Meta(description="sqlite:///relative/file, sqlite:////absolute/file, or postgresql://user@host/database"),
    ] = "sqlite:///data/streamproc.db"
    password: Annotated[str, Meta(description="of the database's user", extra={"secret": True})] = ""
    password_file: Annotated[str, Meta(description="file with the password, read at each connect")] = ""
    connections_max: Annotated[int, Meta(ge=2, le=1_000, description="connections of one process")] = 10
    statement_timeout_s: Annotated[float, Meta(ge=0.1, le=3_600, description="the server ends what takes longer")] = (
        10.0
    )

    def __post_init__(self) -> None:
        if holds_password(self.url):
            raise ValueError("url must not hold a password, which everybody could read: set password_file")
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other: set one of them")
