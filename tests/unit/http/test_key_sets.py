"""What of a key set verifies what, and which addresses of one are taken."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import get_algorithm_by_name

from streamproc.errors import ConfigError
from streamproc.http import jwks
from streamproc.http.auth import TokenVerifier
from streamproc.http.options import AuthOptions
from tests.unit.http.tokens import (
    SECRET,
    Clock,
    claims,
    ec_key,
    jwk,
    of_key_set,
    rsa_key,
    sealed,
    segment,
    signed_by,
    why_not,
)

PRIVATE = get_algorithm_by_name("RS256").to_jwk(rsa_key(), as_dict=True) | {"key_ops": ["verify"]}


@pytest.mark.parametrize(
    ("key", "more"),
    [
        (rsa_key(), {"use": "enc"}),
        (rsa_key(), {"use": 1}),
        (rsa_key(), {"key_ops": ["sign", "encrypt"]}),
        (rsa_key(), {"key_ops": []}),
        (rsa_key(), {"alg": "RS512"}),
        (rsa_key(), {"alg": "ES256"}),
        (rsa_key(), PRIVATE),
        (rsa_key(), {"e": "AQ"}),
        (rsa_key(), {"n": "AQAB"}),
        (rsa_key(), {"n": ""}),
        (rsa_key(), {"n": "!"}),
        (rsa_key(), {"n": segment(b"\xff" * 2_000)}),
        (rsa_key(), {"kty": "EC"}),
        (rsa_key(), {"kty": "oct", "k": segment(SECRET), "alg": "RS256"}),
        (rsa_key(), {"kid": 7}),
        (rsa_key(9, 1_024), {}),
        (ec_key(), {"alg": "ES512"}),
        (ec_key(), {"crv": "P-384"}),
        (ec_key(9, ec.SECP384R1()), {}),
        (ec_key(), {"crv": ...}),
        (ec_key(), {"x": segment(b"\1" * 32)}),
        (ec_key(), {"x": segment(b"\1" * 31)}),
    ],
)
def test_what_is_no_key_for_signatures_is_left_out(tmp_path: Path, key: rsa_key, more: dict[str, object]) -> None:
    entry = {name: value for name, value in (jwk(key, "k") | more).items() if value is not ...}
    verifier = of_key_set(tmp_path, entry, None, 7, "k", [], {}, jwk(rsa_key(1), "other"), jwk(ec_key(1), "other"))
    assert why_not(verifier, signed_by(key, "k")) == "no key fits it"
    assert why_not(verifier, sealed({"alg": "HS256", "kid": "k"}, claims())) == "its alg is not allowed"
    assert why_not(verifier, signed_by(rsa_key(1), "other")) == why_not(verifier, signed_by(ec_key(1), "other")) == ""


@pytest.mark.parametrize("more", [{"use": "sig"}, {"key_ops": ["verify"]}, {"alg": "RS256", "x5c": ["MII"]}])
def test_a_key_may_say_what_it_is_for(tmp_path: Path, more: dict[str, object]) -> None:
    assert why_not(of_key_set(tmp_path, jwk(rsa_key(), "k", **more)), signed_by(rsa_key(), "k")) == ""


def test_without_a_key_id_only_one_key_may_fit(tmp_path: Path) -> None:
    entries = [jwk(rsa_key(), "r"), jwk(ec_key())]
    verifier = of_key_set(tmp_path, *entries)
    assert why_not(verifier, signed_by(rsa_key())) == why_not(verifier, signed_by(ec_key())) == ""
    assert why_not(verifier, signed_by(rsa_key(1))) == "its signature is wrong"
    verifier = of_key_set(tmp_path, *entries, jwk(rsa_key(1), "r1"))
    assert why_not(verifier, signed_by(rsa_key())) == "no key fits it"
    assert why_not(verifier, signed_by(ec_key())) == ""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([{"alg": "RS256", "kid": "r"}, {"alg": "ES256", "kid": "e"}]), st.binary(max_size=300))
def test_no_signature_does_more_than_not_fit(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, str], signature: bytes
) -> None:
    verifier = of_key_set(tmp_path_factory.getbasetemp(), jwk(rsa_key(), "r"), jwk(ec_key(), "e"))
    token = f"{segment(header)}.{segment(claims())}.{segment(signature)}"
    assert why_not(verifier, token) == "its signature is wrong"


@pytest.mark.parametrize(
    "url", ["https://issuer.example/k", "http://127.0.0.2:80/k", "http://[::1]/k", "http://localhost/k"]
)
def test_addresses_that_are_safe_to_ask_are_taken(url: str) -> None:
    TokenVerifier(AuthOptions(jwks_url=url), Clock())


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/k",
        "http://127.0.0.1.example/k",
        "http://10.0.0.1/k",
        "https:///k",
        "https://h:99999/k",
        "https://[::1/k",
        "file:///etc/passwd",
        "issuer.example/k",
    ],
)
def test_addresses_that_are_not_safe_to_ask_are_told(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^auth\.jwks_url: must be like https://issuer\.example") as caught:
        TokenVerifier(AuthOptions(jwks_url=url), Clock())
    assert url not in str(caught.value)


NAMES = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "d"])
VALUES = st.none() | st.integers() | st.text() | st.lists(st.text()) | st.sampled_from(["RSA", "EC", "P-256", "AQAB"])
ENTRIES = st.builds(
    lambda base, more: base | more, st.sampled_from([jwk(rsa_key()), jwk(ec_key()), {}]), st.dictionaries(NAMES, VALUES)
)


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.lists(ENTRIES | VALUES).map(lambda entries: json.dumps({"keys": entries}).encode()))
def test_whatever_is_served_is_a_key_set_or_is_not(body: bytes) -> None:
    try:
        jwks.parse(body)
    except ValueError as error:
        assert str(error)  # noqa: PT017
