"""Which pages may call: the headers of answers, errors and preflights, for every kind of origin."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamproc import Http, HttpContext, Problem
from streamproc.http.cors import answer_headers, preflight_headers
from tests.unit.http.rig import Rig

SHOP, EVIL = "https://shop.example", "https://evil.example"
ALLOWED, VARY = "access-control-allow-origin", "vary"
EXPOSED = {"access-control-expose-headers": "location, retry-after, x-request-id"}


async def act(ctx: HttpContext, how: str = "") -> str | Problem:
    if how == "raise":
        raise ValueError
    return Problem(404, "No") if how == "problem" else how or "x" * 2_000


def http(*cors: str, **more: Any) -> Http:
    return Http("POST", "/act", act, cors=cors, **{"public": True, **more})


@pytest.mark.parametrize(
    ("cors", "origin", "headers"),
    [
        ((), SHOP, {}),
        ((), "", {}),
        ((SHOP,), SHOP, {ALLOWED: SHOP, **EXPOSED, VARY: "Origin"}),
        ((SHOP, EVIL), EVIL, {ALLOWED: EVIL, **EXPOSED, VARY: "Origin"}),
        ((SHOP,), EVIL, {VARY: "Origin"}),
        ((SHOP,), "", {VARY: "Origin"}),
        ((SHOP,), "null", {VARY: "Origin"}),
        ((SHOP,), "*", {VARY: "Origin"}),
        ((SHOP,), "https://shop.example.evil.example", {VARY: "Origin"}),
        ((SHOP,), "https://xshop.example", {VARY: "Origin"}),
        ((SHOP,), "http://shop.example", {VARY: "Origin"}),
        ((SHOP,), "https://shop.example:8443", {VARY: "Origin"}),
        ((SHOP,), "HTTPS://SHOP.EXAMPLE", {VARY: "Origin"}),
        ((SHOP,), "https://shop.example/", {VARY: "Origin"}),
        ((SHOP,), "https://shop.example, https://evil.example", {VARY: "Origin"}),
        (("*",), SHOP, {ALLOWED: "*", **EXPOSED}),
        (("*",), "null", {ALLOWED: "*", **EXPOSED}),
        (("*", SHOP), SHOP, {ALLOWED: "*", **EXPOSED}),
    ],
)
def test_an_answer_names_only_an_origin_that_is_allowed(
    cors: tuple[str, ...], origin: str, headers: dict[str, str]
) -> None:
    assert answer_headers(http(*cors), origin) == headers


def test_a_preflight_is_told_the_method_and_the_headers() -> None:
    found = preflight_headers(http(SHOP), SHOP)
    assert (found[ALLOWED], found["access-control-allow-methods"], found[VARY]) == (SHOP, "POST", "Origin")
    asked = {"authorization", "content-type", "idempotency-key", "traceparent", "x-request-id"}
    assert set(found["access-control-allow-headers"].split(", ")) == asked
    assert found["access-control-max-age"] == "600"
    assert "access-control-expose-headers" not in found
    assert "access-control-allow-credentials" not in found
    assert preflight_headers(http(SHOP), EVIL) == {VARY: "Origin"}
    assert preflight_headers(http(), SHOP) == {}


async def ask(made: Rig, method: str, path: str = "/act", **headers: str) -> httpx2.Response:
    async with made.client() as client:
        return await client.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})


def cors_of(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control") or name == VARY}


@pytest.mark.parametrize(
    ("asked", "origin", "status", "is_allowed"),
    [
        ("POST", SHOP, 204, True),
        ("POST", EVIL, 204, False),
        ("GET", SHOP, 204, True),
        ("HEAD", SHOP, 204, True),
        ("DELETE", SHOP, 405, False),
        ("post", SHOP, 405, False),
        ("", SHOP, 405, False),
        ("POST", "", 405, False),
    ],
)
async def test_a_preflight_is_answered_for_the_method_it_asks_for(
    tmp_path: Path, asked: str, origin: str, status: int, is_allowed: bool
) -> None:
    made = Rig(tmp_path, http(SHOP, public=False), Http("GET", "/act", act, name="read", cors=(SHOP,)))
    headers = {"origin": origin} if origin else {}
    answer = await ask(made, "OPTIONS", access_control_request_method=asked, **headers)
    assert (answer.status_code, answer.headers.get(ALLOWED)) == (status, SHOP if is_allowed else None)
    assert (answer.content == b"") == (status == 204)
    assert sum(sum(one.calls) for one in made.gateway.snapshot().functions) == 0


async def test_a_preflight_of_a_function_that_no_page_may_call_allows_nothing(tmp_path: Path) -> None:
    answer = await ask(Rig(tmp_path, http()), "OPTIONS", origin=SHOP, access_control_request_method="POST")
    assert (answer.status_code, cors_of(answer)) == (204, {})


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/act", {}, 200),
        ("/act?how=problem", {}, 404),
        ("/act?how=raise", {}, 500),
        ("/act?how=%00", {}, 400),
        ("/act", {"public": False}, 401),
        ("/act", {"rate_per_s": 0.001}, 429),
        ("/act", {"concurrency": 1}, 503),
    ],
)
async def test_errors_carry_the_headers_too_so_that_pages_can_read_them(
    tmp_path: Path, path: str, more: dict[str, Any], status: int
) -> None:
    made = Rig(tmp_path, http(SHOP, **more))
    if status == 429:
        await ask(made, "POST")
    if status == 503:
        made.gateway._functions[0].calls._busy_threads = 1
    answer = await ask(made, "POST", path, origin=SHOP, accept_encoding="identity")
    large = "Origin, Accept-Encoding" if status == 200 else "Origin"
    assert (answer.status_code, cors_of(answer)) == (status, {ALLOWED: SHOP, **EXPOSED, VARY: large})
    assert cors_of(await ask(made, "POST", path, origin=EVIL)).get(ALLOWED) is None


async def test_a_cache_is_told_of_the_origin_also_where_none_was_given(tmp_path: Path) -> None:
    assert cors_of(await ask(Rig(tmp_path, http(SHOP)), "POST", "/act?how=x")) == {VARY: "Origin"}
    assert cors_of(await ask(Rig(tmp_path, http()), "POST", "/act?how=x")) == {}


async def test_an_origin_sent_twice_is_not_allowed(tmp_path: Path) -> None:
    async with Rig(tmp_path, http(SHOP)).client() as client:
        answer = await client.post("/act?how=x", headers=[("origin", SHOP), ("origin", EVIL)])
    assert cors_of(answer) == {VARY: "Origin"}
