"""Who calls: bearer tokens (JSON Web Tokens, RFC 7519) that are verified, and signed for development.

PyJWT makes and checks signatures. What a token says is read here, once and strictly: PyJWT takes the last of two
claims of one name, and times that are text, endless or thousands of years away.
"""

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from streamproc.errors import ConfigError
from streamproc.http.options import AuthOptions
from streamproc.secret import read_secret

if TYPE_CHECKING:
    from streamproc.http.jwks import KeySet, KeySource

TOKEN_MAX = 8_192
"""Characters of a token; what is longer is not looked into."""
NAME_MAX = 256
VERIFIED_MAX = 4_096
"""Tokens that are remembered, so that the next request with one need not verify it."""
SECRET_MIN = 32
TIME_MAX = 253_402_300_800
"""The year 10000, in seconds since the epoch."""


class Caller(msgspec.Struct, frozen=True):
    """Who sent a token, what it allows, and all of its claims, which are verified and shared: do not change them."""

    subject: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]


class InvalidToken(Exception):
    """The caller should get 401; the text says why, for the log only, and holds nothing of the token."""


class KeysUnavailable(Exception):
    """No key could be had, so nobody can be let in: the caller should get 503."""


class _Verified(NamedTuple):
    caller: Caller
    valid_from: float
    valid_until: float


class TokenVerifier:
    """Verifies tokens of one issuer for one audience; belongs to one event loop.

    `wall` is the time of day, in seconds since the epoch: that is what tokens are dated by, also when it is set.
    Raises ConfigError when there is no source of keys, or it cannot be used.
    """

    def __init__(self, options: AuthOptions, wall: Callable[[], float]) -> None:
        self._options = options
        self._wall = wall
        self._verified: OrderedDict[str, _Verified] = OrderedDict()
        self._algorithms = ("HS256",) if options.secret_file else ("RS256", "ES256")
        self._keys = _source(options, self._verified.clear)

    async def verify(self, token: str) -> Caller:
        """The caller a token stands for; a token verified before costs no more than finding it again.

        Raises InvalidToken, and KeysUnavailable when there is no key to verify any token with.
        """
        if len(token) > TOKEN_MAX:
            raise InvalidToken(f"it is longer than {TOKEN_MAX} characters")
        now = self._wall()
        self._keys.refresh(now)
        verified = self._verified.get(token)
        if verified is None:
            verified = await self._verify(token, now)
            now = self._wall()
        if not verified.valid_from <= now < verified.valid_until:
            self._verified.pop(token, None)
            raise InvalidToken("it is not valid yet" if now < verified.valid_from else "it has expired")
        self._verified[token] = verified
        self._verified.move_to_end(token)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return verified.caller

    def ready(self) -> str:
        """Returns why no token can be verified; empty when they can. Has keys fetched that are due."""
        self._keys.refresh(self._wall())
        return self._keys.ready()

    async def close(self) -> None:
        """Ends a fetch of keys that is under way."""
        await self._keys.close()

    async def _verify(self, token: str, now: float) -> _Verified:
        header, signed, payload, signature = _split(token)
        algorithm, kid = _check_header(_json(header), self._algorithms)
        # There is one secret, whatever a token calls it.
        key = await self._keys.key(None if algorithm == "HS256" else kid, algorithm, now=now)
        if key is None:
            raise InvalidToken("no key fits it")
        if not key.verifies(signed, signature):
            raise InvalidToken("its signature is wrong")
        return _check_claims(_json(payload), self._options)


def _source(options: AuthOptions, changed: Callable[[], None]) -> "KeySource":
    from streamproc.http.jwks import FileKeys, UrlKeys, read_key_set

    if options.secret_file:
        return FileKeys(options.secret_file, _secret_keys, changed=changed)
    if not (options.jwks_file or options.jwks_url):
        raise ConfigError("auth: nothing verifies tokens: set auth.secret_file, auth.jwks_url or auth.jwks_file")
    from jwt.algorithms import has_crypto

    if not has_crypto:
        setting = "auth.jwks_file" if options.jwks_file else "auth.jwks_url"
        raise ConfigError(f"{setting}: needs the extra: pip install 'streamproc[jwt]'")
    if options.jwks_file:
        return FileKeys(options.jwks_file, read_key_set, changed=changed)
    return UrlKeys(options.jwks_url, changed=changed)


def _secret_keys(file: str) -> "KeySet":
    from jwt import get_algorithm_by_name

    from streamproc.http.jwks import Key, KeySet

    return KeySet([Key(None, "HS256", get_algorithm_by_name("HS256"), _read_secret(file))])


def _read_secret(file: str) -> bytes:
    from jwt import InvalidKeyError, get_algorithm_by_name

    secret = read_secret(file, "auth.secret_file").encode()
    if len(secret) < SECRET_MIN:
        raise ConfigError(
            f"auth.secret_file: {file!r} holds fewer than {SECRET_MIN} bytes; make it: openssl rand -hex 32 > FILE"
        )
    try:
        get_algorithm_by_name("HS256").prepare_key(secret)
    except InvalidKeyError:
        raise ConfigError(f"auth.secret_file: {file!r} holds a public key or a certificate, not a secret") from None
    return secret


def _split(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Header, what is signed, payload and signature."""
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise InvalidToken("it has not three parts")
    try:
        header, payload, signature = (part.encode("ascii") for part in parts)
    except UnicodeEncodeError:
        raise InvalidToken("it holds other characters than base64url") from None
    return _decode(header), header + b"." + payload, _decode(payload), _decode(signature)


def _decode(part: bytes) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(part + b"==")
    except ValueError:
        raise InvalidToken("it is not base64url") from None
    # Python skips characters it does not know, and takes more than one spelling.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise InvalidToken("it is not base64url")
    return decoded


def _json(data: bytes) -> dict[str, Any]:
    try:
        orjson.loads(data)  # refuses what is not UTF-8, half a surrogate pair, NaN, 1e999 and what is too deep
        found = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise InvalidToken("it holds no strict JSON") from None
    if not isinstance(found, dict):
        raise InvalidToken("it holds JSON, but no object")
    if b"\\u0000" in data:
        raise InvalidToken("it holds a NUL, which databases do not take")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _check_header(header: dict[str, Any], algorithms: Sequence[str]) -> tuple[str, str | None]:
    """The algorithm and the key id of a header; addresses and keys in it (jku, x5u, jwk, x5c) mean nothing here."""
    algorithm: Any = header.get("alg")
    kid: Any = header.get("kid")
    if algorithm not in algorithms:
        raise InvalidToken("its alg is not allowed")
    if "typ" in header and str(header["typ"]).lower() not in ("jwt", "at+jwt"):
        raise InvalidToken("its typ is not JWT or at+jwt")
    if "crit" in header:
        raise InvalidToken("it has crit, and no extension is known")
    if "kid" in header and not _is_name(kid):
        raise InvalidToken(f"its kid is not text of at most {NAME_MAX} characters")
    return algorithm, kid


def _check_claims(claims: dict[str, Any], options: AuthOptions) -> _Verified:
    if claims.get("iss") != options.issuer:
        raise InvalidToken("its iss is not auth.issuer")
    audience = claims.get("aud")
    if options.audience not in ([audience] if isinstance(audience, str) else _texts(audience, "aud")):
        raise InvalidToken("its aud does not hold auth.audience")
    valid_from, valid_until = _time(claims, "nbf"), _time(claims, "exp")
    if not 0 < valid_until - valid_from <= options.lifetime_max_s:
        raise InvalidToken("from nbf to exp is longer than auth.lifetime_max_s, or no time")
    if "iat" in claims:
        valid_from = max(valid_from, _time(claims, "iat"))
    subject: Any = claims.get("sub")
    if not _is_name(subject):
        raise InvalidToken(f"its sub is not text of 1 to {NAME_MAX} characters")
    caller = Caller(subject, _scopes(claims), MappingProxyType(claims))
    return _Verified(caller, valid_from - options.leeway_s, valid_until + options.leeway_s)


def _time(claims: dict[str, Any], name: str) -> float:
    value: Any = claims.get(name)
    if type(value) not in (int, float) or not 0 <= value <= TIME_MAX:
        raise InvalidToken(f"its {name} is not a number of seconds since the epoch, before the year 10000")
    return float(value)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """The scopes of `scope`, words in a text (RFC 8693), or else of `scp`: such a text, or a list."""
    name = "scope" if "scope" in claims else "scp"
    given: Any = claims.get(name, "")
    if isinstance(given, str):
        return frozenset(given.split())
    if name == "scope":
        raise InvalidToken("its scope is not text")
    return frozenset(_texts(given, name))


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidToken(f"its {name} is not a list of texts")
    return value


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_MAX


def sign(options: AuthOptions, *, subject: str, scopes: Sequence[str], lifetime_s: int, now: float) -> str:
    """A token signed with the secret of `options`, for development. Raises ConfigError.

    It is valid from `now`, in seconds since the epoch, for `lifetime_s` seconds.
    """
    import jwt

    if not _is_name(subject):
        raise ConfigError(f"subject: must have 1 to {NAME_MAX} characters")
    if any(scope.split() != [scope] for scope in scopes):
        raise ConfigError("scope: must be one word; give another scope by itself")
    if not 0 < lifetime_s <= options.lifetime_max_s:
        raise ConfigError(f"lifetime: must be 1 to {options.lifetime_max_s}, the setting auth.lifetime_max_s")
    claims = {
        "iss": options.issuer,
        "aud": options.audience,
        "sub": subject,
        "scope": " ".join(scopes),
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + lifetime_s,
    }
    return jwt.encode(claims, _read_secret(options.secret_file), algorithm="HS256")
