"""Keys, claims and tokens, sound ones and such as no library would make."""

import base64
import hmac
import json
import os
from collections.abc import Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import get_algorithm_by_name

from streamproc.http.auth import InvalidToken, TokenVerifier
from streamproc.http.options import AuthOptions

T = TypeVar("T")
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

NOW = 1_800_000_000.0
SECRET = "5ec" * 21 + "5"


class Clock:
    """A clock that stands still until a test moves it; seconds since the epoch."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@cache
def rsa_key(number: int = 0, bits: int = 2_048) -> rsa.RSAPrivateKey:
    """A key of this number, the same each time."""
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key(number: int = 0, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """A key of this number, the same each time; of P-256 unless told."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def algorithm_of(key: Private) -> str:
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"


def jwk(key: Private, kid: str | None = None, **more: object) -> dict[str, Any]:
    """The entry of a key set for the public half of a key."""
    entry = get_algorithm_by_name(algorithm_of(key)).to_jwk(key.public_key(), as_dict=True)
    entry.pop("key_ops", None)
    return entry | ({} if kid is None else {"kid": kid}) | more


def key_set(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def claims(**changes: object) -> dict[str, Any]:
    """Claims that are taken at NOW, but for the changes; Ellipsis takes one away."""
    sound = {"iss": "streamproc", "aud": "streamproc", "sub": "u-1", "nbf": NOW - 60, "exp": NOW + 3_600}
    return {name: value for name, value in (sound | changes).items() if value is not ...}


def segment(content: object) -> str:
    """Base64url of bytes, of text, or of anything else as JSON."""
    if isinstance(content, str):
        content = content.encode()
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sealed(header: object, payload: object, key: Private | str | bytes | None = SECRET) -> str:
    """A token of any header and payload, signed by what the key is for, whatever the header says."""
    signed = f"{segment(header)}.{segment(payload)}"
    if key is None:
        return f"{signed}."
    if isinstance(key, str | bytes):
        secret = key.encode() if isinstance(key, str) else key
        return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"
    return f"{signed}.{segment(get_algorithm_by_name(algorithm_of(key)).sign(signed.encode(), key))}"


def hs256(header: dict[str, object] | None = None, *, key: str = SECRET, **changes: object) -> str:
    return sealed({"alg": "HS256", "typ": "JWT"} | (header or {}), claims(**changes), key)


def signed_by(key: Private, kid: str | None = None, **changes: object) -> str:
    name = {} if kid is None else {"kid": kid}
    return sealed({"alg": algorithm_of(key), "typ": "at+JWT"} | name, claims(**changes), key)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        work.close()
    raise AssertionError("it waited")


def why_not(verifier: TokenVerifier, token: str) -> str:
    """Why a token is refused; empty when it is taken."""
    try:
        at_once(verifier.verify(token))
    except InvalidToken as error:
        return str(error)
    return ""


def replace(file: Path, content: str | bytes) -> None:
    """Puts another file in the place of a file, so that it has another inode."""
    other = file.with_suffix(".new")
    other.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(other, file)


def of_key_set(folder: Path, *entries: object, clock: Clock | None = None) -> TokenVerifier:
    """A verifier with the keys of a file keys.json."""
    replace(folder / "keys.json", key_set(*entries))
    return TokenVerifier(AuthOptions(jwks_file=str(folder / "keys.json")), clock or Clock())
