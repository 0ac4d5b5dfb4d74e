"""Where a verifier's keys come from when they are in files, what it remembers, and what it needs to begin."""

import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from streamproc.errors import ConfigError
from streamproc.http import auth
from streamproc.http.auth import InvalidToken, KeysUnavailable, TokenVerifier, sign
from streamproc.http.jwks import BODY_MAX
from streamproc.http.options import AuthOptions
from tests.unit.http.tokens import (
    NOW,
    SECRET,
    Clock,
    at_once,
    ec_key,
    hs256,
    jwk,
    key_set,
    of_key_set,
    replace,
    rsa_key,
    segment,
    signed_by,
    why_not,
)

OTHER = "0ther" * 8
PUBLIC_PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Holds the secret."""
    found = tmp_path / "secret"
    found.write_text(SECRET + "\n")
    return found


@pytest.fixture
def verifier(file: Path, clock: Clock) -> TokenVerifier:
    return TokenVerifier(AuthOptions(secret_file=str(file)), clock)


@pytest.mark.parametrize(
    "spoiled", [hs256(sub=""), hs256(key="x" * 32), "c4nary.c4nary.c4nary", segment("c4nary{") + ".."]
)
def test_a_refusal_holds_nothing_of_the_token(verifier: TokenVerifier, spoiled: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        at_once(verifier.verify(spoiled))
    told = "".join(traceback.format_exception(caught.value))
    assert not any(part in told for part in [*filter(None, spoiled.split(".")), "c4nary"])


def test_a_token_seen_before_is_found_again_until_it_expires(verifier: TokenVerifier, clock: Clock) -> None:
    token = hs256()
    caller = at_once(verifier.verify(token))
    clock.time = NOW + 3_609.9
    assert at_once(verifier.verify(token[:9] + token[9:])) is caller
    clock.time = NOW - 70.1
    assert why_not(verifier, token) == "it is not valid yet"
    clock.time = NOW + 3_610
    assert why_not(verifier, token) == "it has expired"


def test_the_tokens_that_are_remembered_are_the_last_used(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "VERIFIED_MAX", 2)
    a, b, c = (hs256(sub=subject) for subject in "abc")
    seen = {token: at_once(verifier.verify(token)) for token in (a, b)}
    assert at_once(verifier.verify(a)) is seen[a]
    at_once(verifier.verify(c))
    assert at_once(verifier.verify(a)) is seen[a]
    assert at_once(verifier.verify(b)) is not seen[b]


def test_another_secret_counts_within_a_second(verifier: TokenVerifier, clock: Clock, file: Path) -> None:
    old, new = hs256(), hs256(key=OTHER)
    assert (why_not(verifier, old), why_not(verifier, new)) == ("", "its signature is wrong")
    replace(file, OTHER)
    clock.time += 0.9
    assert (why_not(verifier, old), why_not(verifier, new)) == ("", "its signature is wrong")
    clock.time += 0.1
    assert (why_not(verifier, old), why_not(verifier, new)) == ("its signature is wrong", "")


def test_a_clock_that_is_set_back_does_not_keep_the_old_secret(
    verifier: TokenVerifier, clock: Clock, file: Path
) -> None:
    assert why_not(verifier, hs256()) == ""
    replace(file, OTHER)
    clock.time -= 30
    assert why_not(verifier, hs256()) != ""


@pytest.mark.parametrize("content", [None, "", "short", PUBLIC_PEM, b"\xff" * 40], ids=str)
def test_the_last_good_secret_stays_in_use(
    verifier: TokenVerifier, clock: Clock, file: Path, content: str | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        if content is None:
            file.unlink()
        else:
            replace(file, content)
        for _ in range(3):
            clock.time += 1
            assert why_not(verifier, hs256()) == ""
        replace(file, SECRET)
        clock.time += 1
        assert why_not(verifier, hs256()) == ""
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert all(warning.startswith("auth.secret_file: ") for warning in warnings)


def test_a_key_that_is_removed_from_the_file_stops_verifying(tmp_path: Path, clock: Clock) -> None:
    both = of_key_set(tmp_path, jwk(rsa_key(), "r"), jwk(ec_key(), "e"), clock=clock)
    tokens = [signed_by(rsa_key(), "r"), signed_by(ec_key(), "e")]
    assert [why_not(both, token) for token in tokens] == ["", ""]
    for content in (key_set(jwk(ec_key(), "e")), b"rubbish"):
        replace(tmp_path / "keys.json", content)
        clock.time += 1
        assert [why_not(both, token) for token in tokens] == ["no key fits it", ""]
    replace(tmp_path / "keys.json", key_set())
    clock.time += 1
    with pytest.raises(KeysUnavailable):
        at_once(both.verify(tokens[1]))


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("secret_file", None, "cannot read"),
        ("secret_file", "", "is empty"),
        ("secret_file", "s" * 31, "holds fewer than 32 bytes"),
        ("secret_file", PUBLIC_PEM, "holds a public key or a certificate, not a secret"),
        ("jwks_file", None, "cannot read"),
        ("jwks_file", "[]", "is no key set: it is no JSON object"),
        ("jwks_file", '{"keys": {}}', "is no key set: it is no JSON object"),
        ("jwks_file", '{"keys": ' + "[" * 200_000, "is no key set: it is no JSON object"),
        ("jwks_file", key_set(*[{}] * 101), "at most 100"),
        ("jwks_file", key_set() + b" " * BODY_MAX, "is no key set: it has more than 262144 bytes"),
        ("jwks_file", key_set({"kty": "oct", "k": "AAAA"}), "holds no key for RS256 or ES256"),
    ],
)
def test_a_file_without_keys_is_told_at_the_start(
    tmp_path: Path, setting: str, content: str | bytes | None, problem: str
) -> None:
    if content is not None:
        replace(tmp_path / "file", content)
    with pytest.raises(ConfigError) as caught:
        TokenVerifier(AuthOptions(**{setting: str(tmp_path / "file")}), Clock())
    assert str(caught.value).startswith(f"auth.{setting}: ")
    assert problem in str(caught.value)
    assert not content or str(content)[:31] not in str(caught.value)


def test_a_verifier_without_a_source_of_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set auth\.secret_file, auth\.jwks_url or auth\.jwks_file"):
        TokenVerifier(AuthOptions(), Clock())


@pytest.mark.parametrize(
    ("subject", "scopes", "lifetime_s"),
    [("", [], 60), ("u" * 257, [], 60), ("u", ["a b"], 60), ("u", [""], 60), ("u", [], 0), ("u", [], 86_401)],
)
def test_what_would_be_refused_is_not_signed(file: Path, subject: str, scopes: list[str], lifetime_s: int) -> None:
    with pytest.raises(ConfigError, match=r"^(subject|scope|lifetime): must "):
        sign(AuthOptions(secret_file=str(file)), subject=subject, scopes=scopes, lifetime_s=lifetime_s, now=NOW)


def test_what_is_signed_is_taken(file: Path, verifier: TokenVerifier) -> None:
    options = AuthOptions(secret_file=str(file))
    token = sign(options, subject="u-1", scopes=["users:read", "users:write"], lifetime_s=86_400, now=NOW + 0.9)
    assert at_once(verifier.verify(token)).scopes == {"users:read", "users:write"}


def run(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_it_is_cheap_to_import() -> None:
    loaded = run("import sys, streamproc.http.auth; print(*sys.modules)").split()
    assert {"jwt", "cryptography", "asyncio", "starlette", "uvicorn", "aiokafka"} & set(loaded) == set()


def test_only_key_sets_need_the_extra(file: Path) -> None:
    script = """
import sys
sys.modules["cryptography"] = None
from streamproc.http.auth import AuthOptions, ConfigError, TokenVerifier
for options in {"secret_file": sys.argv[1]}, {"jwks_file": "none"}, {"jwks_url": "https://issuer.example/keys"}:
    try:
        print(type(TokenVerifier(AuthOptions(**options), float)).__name__)
    except ConfigError as error:
        print(error)
"""
    needs = "needs the extra: pip install 'streamproc[jwt]'"
    told = ["TokenVerifier", f"auth.jwks_file: {needs}", f"auth.jwks_url: {needs}"]
    assert run(script, str(file)).splitlines() == told
