"""Which bearer tokens are taken, and that the others are only ever refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.http import auth
from streamproc.http.auth import Caller, TokenVerifier
from streamproc.http.options import AuthOptions
from tests.unit.http.tokens import (
    NOW,
    SECRET,
    Clock,
    at_once,
    claims,
    ec_key,
    hs256,
    jwk,
    key_set,
    rsa_key,
    sealed,
    segment,
    signed_by,
    why_not,
)

HS256 = {"alg": "HS256"}
PUBLIC_PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
def verifier(secret_file: Path, clock: Clock) -> TokenVerifier:
    return TokenVerifier(AuthOptions(secret_file=str(secret_file)), clock)


@pytest.fixture
def asymmetric(tmp_path: Path, clock: Clock) -> TokenVerifier:
    """Knows an RSA key r and an elliptic key e."""
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(rsa_key(), "r"), jwk(ec_key(), "e")))
    return TokenVerifier(AuthOptions(jwks_file=str(file)), clock)


def test_a_sound_token_tells_who_calls(verifier: TokenVerifier) -> None:
    caller = at_once(verifier.verify(hs256(sub="u-ö", scope=" users:read  users:write", tenant={"id": 7})))
    assert (caller.subject, caller.scopes) == ("u-ö", {"users:read", "users:write"})
    assert caller.claims["tenant"] == {"id": 7}
    with pytest.raises(TypeError):
        caller.claims["tenant"] = 8  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scp": ["a", "b c"]}, {"a", "b c"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a"}),
    ],
)
def test_scopes_are_those_of_scope_or_of_scp(
    verifier: TokenVerifier, changes: dict[str, Any], scopes: set[str]
) -> None:
    assert at_once(verifier.verify(hs256(**changes))).scopes == scopes


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "at+JWT"},
        {"typ": "jwt"},
        {"kid": "../../dev/null"},
        {"kid": "x' OR '1'='1"},
        {"kid": "k" * 256},
        {"jku": "https://attacker.example/keys", "x5u": "https://attacker.example/x", "x5c": ["MII"]},
        {"jwk": jwk(rsa_key(1))},
    ],
)
def test_names_of_keys_and_addresses_in_the_header_mean_nothing(
    verifier: TokenVerifier, header: dict[str, object]
) -> None:
    assert why_not(verifier, hs256(header)) == ""
    assert "signature" in why_not(verifier, hs256(header, key="other" * 8))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": "hs256"},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"HS256": 1}},
        {"typ": "JWE"},
        {"typ": "dpop+jwt"},
        {"typ": None},
        {"typ": ["JWT"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None, "b64": False},
        {"kid": 1},
        {"kid": None},
        {"kid": ["k"]},
        {"kid": "k" * 257},
    ],
)
def test_a_header_that_is_not_ours_is_refused(verifier: TokenVerifier, header: dict[str, object]) -> None:
    [name] = header.keys() & {"alg", "typ", "crit", "kid"}
    assert f"its {name} " in why_not(verifier, hs256(header)).replace("it has crit,", "its crit ")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "none", "kid": "r"}, None),
        ({"kid": "r"}, rsa_key()),
        ({"alg": "HS256", "kid": "r"}, PUBLIC_PEM),
        ({"alg": "HS256", "kid": "r"}, PUBLIC_PEM.strip()),
        ({"alg": "HS256"}, json.dumps(jwk(rsa_key(), "r"))),
        ({"alg": "RS256", "kid": "r"}, PUBLIC_PEM),
        ({"alg": "RS256", "kid": "e"}, rsa_key()),
        ({"alg": "ES256", "kid": "r"}, rsa_key()),
        ({"alg": "ES256", "kid": "r"}, ec_key()),
        ({"alg": "RS256", "kid": "r"}, ec_key()),
        ({"alg": "RS256", "kid": "r", "jwk": jwk(rsa_key(1), "r")}, rsa_key(1)),
        ({"alg": "RS256", "kid": "../r"}, rsa_key()),
        ({"alg": "RS256", "kid": "r' --"}, rsa_key()),
        ({"alg": "RS384", "kid": "r"}, rsa_key()),
        ({"alg": "PS256", "kid": "r"}, rsa_key()),
    ],
)
def test_a_key_verifies_only_its_own_algorithm(asymmetric: TokenVerifier, header: dict[str, Any], key: Any) -> None:
    assert why_not(asymmetric, signed_by(rsa_key(), "r")) == why_not(asymmetric, signed_by(ec_key(), "e")) == ""
    assert why_not(asymmetric, sealed(header, claims(), key)) != ""


TIMES: list[object] = [..., None, True, str(int(NOW)), [NOW], 979_000_000_000, -1, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", TIMES, ids=lambda value: str(value)[:20])
def test_times_are_numbers_of_this_age(verifier: TokenVerifier, name: str, value: object) -> None:
    refused = why_not(verifier, hs256(**{"iat": NOW, name: value}))
    if (name, value) == ("iat", ...):
        assert refused == ""
    else:
        assert refused.startswith((f"its {name} is not a number of seconds", "it holds no strict JSON"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", ...),
        ("iss", "other"),
        ("iss", ["streamproc"]),
        ("aud", ...),
        ("aud", "other"),
        ("aud", "streamproc2"),
        ("aud", []),
        ("aud", ["streamproc", 1]),
        ("aud", {"streamproc": 1}),
        ("sub", ...),
        ("sub", ""),
        ("sub", 1),
        ("sub", "u" * 257),
        ("sub", "\0"),
        ("sub", "\ud800"),
        ("scope", ["a"]),
        ("scope", None),
        ("scp", {"a": 1}),
        ("scp", [1]),
        ("nested", {"deep": ["\ud800"]}),
        ("nested", {"deep": ["\0"]}),
    ],
)
def test_claims_of_another_kind_or_value_are_refused(verifier: TokenVerifier, name: str, value: object) -> None:
    assert why_not(verifier, hs256(**{name: value})) != ""


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"aud": ["other", "streamproc"]}, ""),
        ({"nbf": int(NOW) + 10}, ""),
        ({"nbf": NOW + 10.01}, "it is not valid yet"),
        ({"iat": NOW + 10.01}, "it is not valid yet"),
        ({"exp": NOW - 9.99}, ""),
        ({"exp": NOW - 10}, "it has expired"),
        ({"nbf": NOW, "exp": NOW + 86_400}, ""),
        ({"nbf": NOW, "exp": NOW + 86_401}, "from nbf to exp is longer than auth.lifetime_max_s, or no time"),
        ({"nbf": NOW + 5, "exp": NOW - 5}, "from nbf to exp is longer than auth.lifetime_max_s, or no time"),
    ],
)
def test_a_token_is_taken_from_nbf_to_exp_and_ten_seconds_around(
    verifier: TokenVerifier, changes: dict[str, object], refused: str
) -> None:
    assert why_not(verifier, hs256(**changes)) == refused


def test_a_claim_that_comes_twice_is_refused(verifier: TokenVerifier) -> None:
    sound = json.dumps(claims())
    assert why_not(verifier, sealed(HS256, sound)) == ""
    for twice in ('"sub": "admin"', '"exp": 1', '"a": {"b": 1, "\\u0062": 1}'):
        assert "strict JSON" in why_not(verifier, sealed(HS256, sound[:-1] + f", {twice}}}"))
    assert "strict JSON" in why_not(verifier, sealed('{"alg": "none", "alg": "HS256"}', sound))


@pytest.mark.parametrize("depth", [1_010, 2_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"a":', "}")])
def test_deep_json_is_refused(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch, depth: int, opening: str, closing: str
) -> None:
    monkeypatch.setattr(auth, "TOKEN_MAX", 2_000_000)
    deep = f'{{"deep": {opening * depth}1{closing * depth}, '
    assert why_not(verifier, sealed(deep + '"alg": "none"}', claims())) != ""
    refused = why_not(verifier, sealed(HS256, deep + json.dumps(claims())[1:]))
    assert refused or depth < 1_024  # what orjson takes, json may take


class Unread(str):
    """Text whose content nobody may look at."""

    def __hash__(self) -> int:
        raise AssertionError("it was looked at")

    split = encode = __hash__  # type: ignore[assignment]


@pytest.mark.parametrize("length", [auth.TOKEN_MAX + 1, 2_000_000])
def test_what_is_too_long_is_not_looked_at(verifier: TokenVerifier, length: int) -> None:
    assert why_not(verifier, Unread("a" * length)) == "it is longer than 8192 characters"
    with pytest.raises(AssertionError, match="looked at"):
        why_not(verifier, Unread("a" * auth.TOKEN_MAX))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token + "=",
        lambda token: token.replace(".", ".\n", 1),
        lambda token: token + ".",
        lambda token: "." + token,
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.rpartition(".")[0],
        lambda token: token.replace(".", "\0."),
        lambda token: token + "\ud800",
        lambda token: "\uff45" + token[1:],
        lambda token: f"{segment(HS256)}.{segment(claims())[:-1]}.AAAA",
        lambda _: sealed(json.dumps(HS256).encode("utf-16"), claims()),
        lambda _: sealed(HS256, json.dumps(claims()).encode("utf-8-sig")),
    ],
)
def test_another_spelling_of_a_sound_token_is_refused(verifier: TokenVerifier, spoil: Callable[[str], str]) -> None:
    assert why_not(verifier, hs256()) == ""
    assert why_not(verifier, spoil(hs256())) != ""


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "scope", "scp", "x"]), VALUES)
HEADERS = st.dictionaries(st.sampled_from(["alg", "typ", "crit", "kid", "b64"]), VALUES)
TOKENS = (
    st.text()
    | st.text(st.characters(codec="ascii"))
    | st.binary().map(lambda data: data.decode("latin-1"))
    | st.builds(lambda *parts: ".".join(map(segment, parts)), st.binary(), st.binary(), st.binary())
    | st.builds(sealed, st.binary() | HEADERS.map(lambda more: HS256 | more), st.binary() | VALUES)
    | st.builds(lambda more: sealed(HS256, claims(**more)), CLAIMS)
)


@settings(max_examples=400, deadline=None)
@given(TOKENS)
def test_whatever_comes_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, token: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any-secret"
    file.write_text(SECRET)
    verifier = TokenVerifier(AuthOptions(secret_file=str(file)), Clock())
    if not why_not(verifier, token):
        assert isinstance(at_once(verifier.verify(token)), Caller)
