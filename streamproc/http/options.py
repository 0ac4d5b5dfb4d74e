"""What is served over HTTP, and who may call: sections `[ops]`, `[http]` and `[auth]` of the settings."""

from ipaddress import ip_address
from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc.secret import holds_password


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only: a name other than localhost may mean any."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class OpsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[ops]`: metrics and probes over HTTP."""

    listen: Annotated[
        str, Meta(description="host:port of metrics and probes; port 0 takes a free one, empty is off")
    ] = "127.0.0.1:9464"


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[http]`: where the HTTP functions are served."""

    listen: Annotated[str, Meta(description="host:port of the HTTP functions; port 0 takes a free one")] = (
        "127.0.0.1:8080"
    )
    connections_max: Annotated[int, Meta(ge=1, description="beyond these, callers get 503")] = 10_000
    keep_alive_s: Annotated[float, Meta(gt=0, description="idle connections are closed after this")] = 5.0
    head_timeout_s: Annotated[
        float, Meta(gt=0, description="for a request's head; for its body too, and 1 s more per 1,000 bytes")
    ] = 10.0
    access_log: Annotated[bool, Meta(description="a line per request")] = True


class AuthOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[auth]`: whose bearer tokens are taken. One source of keys decides the algorithms."""

    secret_file: Annotated[
        str, Meta(description="file with the HS256 secret, at least 32 bytes; read anew when it changes")
    ] = ""
    jwks_url: Annotated[str, Meta(description="https address of a key set, for RS256 and ES256")] = ""
    jwks_file: Annotated[str, Meta(description="file with a key set, read anew when it changes")] = ""
    issuer: Annotated[str, Meta(min_length=1, description="what `iss` must be")] = "streamproc"
    audience: Annotated[str, Meta(min_length=1, description="what `aud` must hold")] = "streamproc"
    lifetime_max_s: Annotated[int, Meta(ge=60, le=2_678_400, description="longest time from `nbf` to `exp`")] = 86_400
    leeway_s: Annotated[int, Meta(ge=0, le=300, description="how far clocks may differ")] = 10
    development: Annotated[bool, Meta(description="lets `streamproc token` sign tokens; only on loopback")] = False

    def __post_init__(self) -> None:
        sources = [self.secret_file, self.jwks_url, self.jwks_file]
        if sum(map(bool, sources)) > 1:
            raise ValueError("secret_file, jwks_url and jwks_file exclude each other: set one of them")
        if holds_password(self.jwks_url):
            raise ValueError("jwks_url must not hold a password: a key set is public")
        if self.development and not self.secret_file:
            raise ValueError("development = true needs secret_file: only that can sign")
