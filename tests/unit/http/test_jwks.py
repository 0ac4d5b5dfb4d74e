"""Keys from an address: how often it is asked, and what holds while it changes, fails or is slow."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from streamproc.http import jwks
from streamproc.http.auth import InvalidToken, KeysUnavailable, TokenVerifier
from streamproc.http.options import AuthOptions
from tests.unit.http.keyserver import KeyServer, fetches, refusal, serve, until_asked
from tests.unit.http.tokens import (
    NOW,
    Clock,
    at_once,
    claims,
    ec_key,
    jwk,
    key_set,
    rsa_key,
    sealed,
    segment,
    signed_by,
)

OLD, NEW = signed_by(rsa_key(), "old"), signed_by(ec_key(), "new")
NO_KEY = "no key fits it"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with serve() as running:
        running.body = key_set(jwk(rsa_key(), "old"))
        yield running


@pytest.fixture
async def verifier(server: KeyServer, clock: Clock) -> AsyncIterator[TokenVerifier]:
    found = TokenVerifier(AuthOptions(jwks_url=server.url), clock)
    yield found
    server.gate.set()
    await found.close()


async def test_a_thousand_callers_share_the_first_fetch(server: KeyServer, verifier: TokenVerifier) -> None:
    server.body = key_set(jwk(ec_key(), "e"))
    tokens = [signed_by(ec_key(), "e", sub=f"u-{number}") for number in range(1_000)]
    callers = await asyncio.gather(*map(verifier.verify, tokens))
    assert [caller.subject for caller in callers] == [f"u-{number}" for number in range(1_000)]
    assert server.requests == 1
    assert at_once(verifier.verify(tokens[7])) is callers[7]


async def test_a_token_that_expires_while_keys_are_fetched_is_refused(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    server.gate.clear()
    waiting = asyncio.create_task(refusal(verifier, OLD))
    await until_asked(server, 1)
    clock.time += 4_000
    server.gate.set()
    assert await waiting == "it has expired"


async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_others(
    server: KeyServer, verifier: TokenVerifier
) -> None:
    server.gate.clear()
    first, second = [asyncio.create_task(verifier.verify(OLD)) for _ in range(2)]
    await until_asked(server, 1)
    first.cancel()
    server.gate.set()
    assert (await second).subject == "u-1"
    assert first.cancelled()
    assert server.requests == 1


async def test_keys_are_renewed_in_the_background_after_ten_minutes(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    server.body = key_set(jwk(ec_key(), "new"))
    clock.time = NOW + 599
    assert await refusal(verifier, OLD) == ""
    assert server.requests == 1
    clock.time = NOW + 600
    server.gate.clear()
    assert at_once(verifier.verify(OLD)).subject == "u-1"
    await until_asked(server, 2)
    clock.time = NOW + 700
    assert at_once(verifier.verify(OLD)).subject == "u-1"
    assert len(fetches()) == 1
    server.gate.set()
    await asyncio.gather(*fetches())
    assert server.requests == 2
    assert [await refusal(verifier, OLD), await refusal(verifier, NEW)] == [NO_KEY, ""]


async def test_the_same_keys_again_leave_known_tokens_known(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    caller = await verifier.verify(OLD)
    clock.time += 601
    assert await refusal(verifier, OLD) == ""
    assert server.requests == 2
    assert await verifier.verify(OLD) is caller


async def test_a_new_key_is_fetched_once_thirty_seconds_have_passed(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    server.body = key_set(jwk(ec_key(), "new"))
    clock.time = NOW + 29
    assert await refusal(verifier, NEW) == NO_KEY
    assert server.requests == 1
    clock.time = NOW + 30
    assert [await refusal(verifier, NEW), await refusal(verifier, OLD)] == ["", NO_KEY]
    assert server.requests == 2


async def test_ten_thousand_unknown_keys_ask_every_thirty_seconds_at_most(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    payload = f"{segment(claims())}.{segment('no signature')}"
    for number in range(10_000):
        clock.time = NOW + number / 100
        with pytest.raises(InvalidToken):
            await verifier.verify(f"{segment({'alg': 'ES256', 'kid': f'../{number}'})}.{payload}")
    assert server.requests == 1 + 3
    assert await refusal(verifier, OLD) == ""


async def test_unknown_keys_of_one_moment_share_a_fetch(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    server.body = key_set(jwk(rsa_key(), "old"), jwk(ec_key(), "new"))
    clock.time += 30
    unknown = [signed_by(ec_key(1), f"k{number}") for number in range(200)]
    found = await asyncio.gather(*[refusal(verifier, token) for token in [*unknown, NEW, OLD]])
    assert found == [NO_KEY] * 200 + ["", ""]
    assert server.requests == 2


async def test_a_known_key_and_another_algorithm_ask_nobody(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    clock.time += 100
    assert await refusal(verifier, sealed({"alg": "ES256", "kid": "old"}, claims(), ec_key())) == NO_KEY
    assert await refusal(verifier, signed_by(ec_key())) == NO_KEY
    jku = {"alg": "RS256", "kid": "old", "jku": server.url + "/attacker", "x5u": server.url + "/attacker"}
    assert await refusal(verifier, sealed(jku, claims(), rsa_key(1))) == "its signature is wrong"
    assert server.paths == ["/keys"]


GOOD = key_set(jwk(ec_key(), "new"))
FAILURES = {
    "gone": {"hangs_up": True},
    "error": {"status": 500, "body": GOOD},
    "redirect": {"status": 302, "headers": {"Location": "/elsewhere"}, "body": GOOD},
    "permanent redirect": {"status": 308, "headers": {"Location": "/elsewhere"}, "body": GOOD},
    "cut": {"body": GOOD[:-2]},
    "empty": {"body": b""},
    "page": {"body": b"<html>maintenance</html>"},
    "binary": {"body": bytes(range(256))},
    "list": {"body": b"[" + GOOD + b"]"},
    "no keys": {"body": b'{"key": []}'},
    "keys of another kind": {"body": b'{"keys": {"kty": "EC"}}'},
    "101 keys": {"body": key_set(*[jwk(ec_key(), "new")] * 101)},
    "deep": {"body": b'{"keys": [' + b"[" * 100_000},
    "long": {"body": GOOD + b" " * jwks.BODY_MAX},
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_old_keys_serve_while_the_endpoint_fails(
    server: KeyServer, verifier: TokenVerifier, clock: Clock, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await refusal(verifier, OLD) == ""
    sound = dict(vars(server))
    vars(server).update(FAILURES[failure])
    for second in range(600, 700):
        clock.time = NOW + second
        assert await refusal(verifier, NEW if second % 2 else OLD) == (NO_KEY if second % 2 else "")
    assert server.paths == ["/keys"] * (1 + 4)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4
    assert all(warning.startswith("auth.jwks_url: no new keys: ") for warning in warnings)
    vars(server).update(sound, body=GOOD)
    clock.time = NOW + 720
    assert [await refusal(verifier, NEW), await refusal(verifier, OLD)] == ["", NO_KEY]


async def test_an_answer_without_an_end_is_cut(
    server: KeyServer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    server.body, server.repeat = b" " * 65_536, 1_000_000
    assert await refusal(verifier, OLD) == "unavailable"
    assert "it has more than 262144 bytes" in caplog.text


@pytest.mark.parametrize("slowness", [{}, {"drips": True}], ids=["silent", "in drops"])
async def test_nobody_waits_long_for_an_endpoint_that_is_slow(
    server: KeyServer, verifier: TokenVerifier, clock: Clock, slowness: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await refusal(verifier, OLD) == ""
    monkeypatch.setattr(jwks, "FETCH_S", 0.1)
    vars(server).update(slowness)
    server.gate.clear()
    clock.time = NOW + 600
    async with asyncio.timeout(10):
        assert await refusal(verifier, NEW) == NO_KEY
        assert await refusal(verifier, OLD) == ""
    assert server.requests == 2


@pytest.mark.parametrize("failure", [{"status": 503}, {"body": key_set()}], ids=["error", "no key"])
async def test_without_any_key_callers_are_told_so_and_the_first_attempts_are_quick(
    server: KeyServer, verifier: TokenVerifier, clock: Clock, failure: dict[str, object]
) -> None:
    sound = dict(vars(server))
    vars(server).update(failure)
    attempts = []
    for tenth in range(0, 800):
        clock.time = NOW + tenth / 10
        before = server.requests
        assert await refusal(verifier, OLD) == "unavailable"
        attempts += [tenth / 10] * (server.requests - before)
    assert attempts == [0, 1, 6, 36, 66]
    vars(server).update(sound)
    clock.time = NOW + 96
    assert await refusal(verifier, OLD) == ""


async def test_a_token_that_is_no_token_is_refused_even_without_keys(
    server: KeyServer, verifier: TokenVerifier
) -> None:
    server.status = 503
    assert await refusal(verifier, "a.b.c") != "unavailable"


async def test_a_set_without_keys_takes_all_of_them_away(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    assert await refusal(verifier, OLD) == ""
    server.body = key_set()
    clock.time += 600
    assert await refusal(verifier, OLD) == ""
    assert await refusal(verifier, OLD) == "unavailable"


async def test_a_clock_that_is_set_back_does_not_keep_old_keys(
    server: KeyServer, verifier: TokenVerifier, clock: Clock
) -> None:
    token = signed_by(rsa_key(), "old", nbf=NOW - 4_000)
    assert await refusal(verifier, token) == ""
    server.body = GOOD
    clock.time = NOW - 3_600
    assert [await refusal(verifier, token), await refusal(verifier, token)] == ["", NO_KEY]


async def test_an_endpoint_that_is_not_there_yet_is_asked_again(clock: Clock) -> None:
    with serve() as first:
        address, url = ("127.0.0.1", int(first.url.split(":")[2].split("/")[0])), first.url
    verifier = TokenVerifier(AuthOptions(jwks_url=url), clock)
    assert await refusal(verifier, OLD) == "unavailable"
    with serve(address) as server:
        server.body = key_set(jwk(rsa_key(), "old"))
        clock.time += 1
        assert await refusal(verifier, OLD) == ""


async def test_closing_ends_a_fetch(
    server: KeyServer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_S", 60)
    server.gate.clear()
    waiting = asyncio.create_task(verifier.verify(OLD))
    await until_asked(server, 1)
    async with asyncio.timeout(10):
        await verifier.close()
        with pytest.raises(KeysUnavailable):
            await waiting
    assert fetches() == []


async def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await refusal(verifier, OLD) == ""
