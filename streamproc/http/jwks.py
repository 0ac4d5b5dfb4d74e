"""Keys that verify tokens: held by a file, or fetched as a JSON Web Key Set (RFC 7517), and renewed while they serve.

PyJWT's own client blocks, and asks anew for every unknown key id as long as the endpoint fails. This one asks in a
thread, once at a time and at most every 30 seconds, and goes on with the keys it has.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import msgspec
from msgspec import Meta

from streamproc.errors import ConfigError
from streamproc.http.auth import KeysUnavailable
from streamproc.http.options import is_loopback

log = logging.getLogger("streamproc.auth")

FETCH_S = 5.0
"""How long a fetch may take."""
RETRY_S = 30.0
"""Seconds between two fetches at least, whatever the tokens say and however the endpoint fails."""
FIRST_RETRIES_S = 1.0, 5.0
"""The same for the first attempts, as long as there is no key at all."""
REFRESH_S = 600.0
"""Keys of this age are fetched anew."""
FILE_CHECK_S = 1.0
BODY_MAX = 262_144
KEYS_MAX = 100
RSA_BITS = range(2_048, 8_193)
NONE_USABLE = "no key for RS256 or ES256"


class Key(NamedTuple):
    """A key and the one algorithm it verifies; `implementation` is PyJWT's, `material` what that takes for a key."""

    kid: str | None
    algorithm: str
    implementation: Any
    material: Any

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether this key made the signature."""
        return bool(self.implementation.verify(signed, self.material, signature))


class KeySource(Protocol):
    """Where a verifier gets keys from; it calls `changed` of its maker when they are others than before."""

    def refresh(self, now: float) -> None:
        """Called for every token: sees to it that the keys become no older than they may."""

    def ready(self) -> str:
        """Returns why there is no key at all; empty when there is one."""

    async def key(self, kid: str | None, algorithm: str, *, now: float) -> Key | None:
        """The key a token means, None when there is no such key. Raises KeysUnavailable."""

    async def close(self) -> None:
        """Ends what is under way."""


class KeySet:
    """Keys of one moment, those of a JSON Web Key Set; false when there is none."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = keys
        self._named = {(key.kid, key.algorithm): key for key in reversed(keys)}
        self._kids = {key.kid for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def knows(self, kid: str | None) -> bool:
        """Whether a key has this name; for a token that names none, whether there is a key."""
        return bool(self._keys) if kid is None else kid in self._kids

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key that a token means by the `kid` of its header; without that, only one key may fit."""
        if kid is not None:
            return self._named.get((kid, algorithm))
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None


class _Entry(msgspec.Struct, tag_field="kty", omit_defaults=True, kw_only=True):
    kid: str | None = None
    alg: str | None = None
    use: Literal["sig"] | None = None
    key_ops: tuple[str, ...] = ("verify",)
    d: Any = None  # what only a private key has

    def verifies(self, algorithm: str) -> bool:
        return self.alg in (None, algorithm) and "verify" in self.key_ops and self.d is None


class _Rsa(_Entry, tag="RSA", kw_only=True):
    algorithm: ClassVar[str] = "RS256"
    n: str
    e: str


class _Elliptic(_Entry, tag="EC", kw_only=True):
    algorithm: ClassVar[str] = "ES256"
    crv: Literal["P-256"]
    x: str
    y: str


class _Document(msgspec.Struct):
    keys: Annotated[list[msgspec.Raw], Meta(max_length=KEYS_MAX)]


def parse(body: bytes) -> KeySet:
    """The keys of a JSON Web Key Set; those that are not for RS256 or ES256 are left out. Raises ValueError."""
    if len(body) > BODY_MAX:
        raise ValueError(f"it has more than {BODY_MAX} bytes")
    try:
        entries = msgspec.json.decode(body, type=_Document).keys
    except (ValueError, RecursionError):
        raise ValueError(f'it is no JSON object with a list "keys" of at most {KEYS_MAX}') from None
    return KeySet([key for entry in entries if (key := _key(entry)) is not None])


def _key(raw: msgspec.Raw) -> Key | None:
    from jwt import get_algorithm_by_name

    try:
        entry = msgspec.json.decode(raw, type=_Rsa | _Elliptic)
        if not entry.verifies(entry.algorithm):
            return None
        implementation = get_algorithm_by_name(entry.algorithm)
        material: Any = implementation.from_jwk(msgspec.to_builtins(entry))
    except Exception:
        return None  # whatever is wrong with one key, the others count
    if isinstance(entry, _Rsa) and material.key_size not in RSA_BITS:
        return None
    return Key(entry.kid, entry.algorithm, implementation, material)


def read_key_set(file: str) -> KeySet:
    """The keys of a file. Raises ConfigError."""
    try:
        with open(file, "rb") as opened:
            return parse(opened.read(BODY_MAX + 1))
    except OSError as error:
        raise ConfigError(f"auth.jwks_file: cannot read {file!r}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"auth.jwks_file: {file!r} is no key set: {error}") from None


class FileKeys:
    """The keys of a file, read anew within a second of a change; the last good ones when that fails."""

    def __init__(self, file: str, read: Callable[[str], KeySet], *, changed: Callable[[], None]) -> None:
        self._file = file
        self._read = read
        self._changed = changed
        self._stamp = _stamp(file)
        self._keys = read(file)
        if not self._keys:
            raise ConfigError(f"auth.jwks_file: {file!r} holds {NONE_USABLE}")
        self._checked_at = 0.0
        self._failing = False

    def refresh(self, now: float) -> None:
        """See the port."""
        # The clock may be set back: what was checked later than now is checked again.
        if self._checked_at <= now < self._checked_at + FILE_CHECK_S:
            return
        self._checked_at = now
        stamp = _stamp(self._file)
        try:
            if stamp is None or stamp != self._stamp:
                self._keys = self._read(self._file)
                self._stamp = stamp
                self._changed()
            self._failing = False
        except ConfigError as error:
            if not self._failing:
                log.warning("%s; what was read before stays in use", error)
            self._failing = True

    def ready(self) -> str:
        """See the port."""
        return "" if self._keys else f"auth.jwks_file holds {NONE_USABLE}"

    async def key(self, kid: str | None, algorithm: str, *, now: float) -> Key | None:
        """See the port."""
        if not self._keys:
            raise KeysUnavailable(self.ready())
        return self._keys.find(kid, algorithm)

    async def close(self) -> None:
        """See the port."""


def _stamp(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class UrlKeys:
    """The key set at an address. Raises ConfigError for an address that is not safe to ask."""

    def __init__(self, url: str, *, changed: Callable[[], None]) -> None:
        _check(url)
        self._url = url
        self._changed = changed
        self._keys = KeySet()
        self._body = b""
        self._fetch: asyncio.Task[None] | None = None
        self._failures = 0
        # Seconds since the epoch: the last fetch, the next one for an unknown key, the next one anyway.
        self._asked_at = self._allowed_at = self._due_at = 0.0

    def refresh(self, now: float) -> None:
        """See the port. Keys are renewed in the background."""
        if not self._asked_at <= now < self._due_at:
            self._begin(now)

    def ready(self) -> str:
        """See the port."""
        return "" if self._keys else "auth.jwks_url gave no key"

    async def key(self, kid: str | None, algorithm: str, *, now: float) -> Key | None:
        """See the port. A fetch is waited for only by tokens whose key is not here."""
        if not self._keys.knows(kid):
            if not self._asked_at <= now < self._allowed_at:
                self._begin(now)
            if self._fetch is not None and not self._fetch.done():
                await asyncio.wait({self._fetch}, timeout=FETCH_S)
        if not self._keys:
            raise KeysUnavailable(self.ready())
        return self._keys.find(kid, algorithm)

    async def close(self) -> None:
        """See the port."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})

    def _begin(self, now: float) -> None:
        if self._fetch is not None and not self._fetch.done():
            return
        quick = not self._keys and self._failures < len(FIRST_RETRIES_S)
        self._asked_at = now
        self._allowed_at = self._due_at = now + (FIRST_RETRIES_S[self._failures] if quick else RETRY_S)
        self._fetch = asyncio.create_task(self._renew(), name="jwks")

    async def _renew(self) -> None:
        try:
            body = await asyncio.to_thread(fetch, self._url)
            if body != self._body:
                self._keys, self._body = parse(body), body
                self._changed()
            if not self._keys:
                raise ValueError(f"it holds {NONE_USABLE}")
        except Exception as error:  # whatever the endpoint does, the keys that are here go on to serve
            self._failures += 1
            log.warning("auth.jwks_url: no new keys: %s: %s", type(error).__name__, error)
            return
        self._allowed_at, self._due_at = self._asked_at + RETRY_S, self._asked_at + REFRESH_S


def _check(url: str) -> None:
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
        if is_safe and host and parts.port != 0 and "@" not in parts.netloc:
            return
    raise ConfigError("auth.jwks_url: must be like https://issuer.example/jwks.json; http is for loopback only")


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Keys come from the address that was configured, or not at all."""


def fetch(url: str) -> bytes:
    """What an address answers, cut soon after BODY_MAX. Blocks for some FETCH_S seconds. Raises what urllib raises."""
    give_up_at = time.monotonic() + FETCH_S
    proxies = ProxyHandler(None if url.startswith("https:") else {})
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "streamproc"})  # noqa: S310  (checked)
    body = b""
    with build_opener(_NoRedirect, proxies).open(request, timeout=FETCH_S) as answer:
        while len(body) <= BODY_MAX and (chunk := answer.read1(BODY_MAX)):
            body += chunk
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"it took longer than {FETCH_S:g} s")
    return body
