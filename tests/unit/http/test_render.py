"""What is sent for what a function returned, and in which coding."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamproc import Accepted, Answer, Created, HandlerError, Http, HttpContext, NoContent, Problem
from streamproc.http.render import GZIP_BYTES_MIN, Rendered, compressed, problem, render
from tests.unit.http.rig import Rig

JSON = {"content-type": "application/json"}


class View(Answer):
    user_id: str
    made_at: datetime | None = None


@pytest.mark.parametrize(
    ("returned", "answer"),
    [
        (None, Rendered(204, {}, b"")),
        (NoContent(), Rendered(204, {}, b"")),
        (View(user_id="u"), Rendered(200, JSON, b'{"userId":"u","madeAt":null}')),
        (
            Created(View(user_id="u", made_at=datetime(2026, 1, 2, tzinfo=UTC)), location="/u/1"),
            Rendered(201, {**JSON, "location": "/u/1"}, b'{"userId":"u","madeAt":"2026-01-02T00:00:00Z"}'),
        ),
        (Accepted({"n": 1}), Rendered(202, JSON, b'{"n":1}')),
        (False, Rendered(200, JSON, b"false")),
        (float("inf"), Rendered(200, JSON, b"null")),
        (Problem(409, "Taken"), Rendered(409, JSON, b'{"error":"Taken"}')),
        (
            Problem(400, "Bad", {"n": "too small"}, {"Retry-After": "5"}),
            Rendered(400, {**JSON, "retry-after": "5"}, b'{"error":"Bad","fields":{"n":"too small"}}'),
        ),
    ],
)
def test_a_value_becomes_an_answer(returned: object, answer: Rendered) -> None:
    assert render(returned) == answer


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (object(), "it returned object, which cannot be written as JSON"),
        (Accepted(object()), "it returned object, which"),
        ("\ud800", "it returned str, which"),
        (Created(1, location="/a\r\nset-cookie: x"), "a header of the answer holds characters it must not"),
        (Created(1, location="/ä"), "a header of the answer"),
        (Problem(400, "x", headers={"x": "a\0"}), "a header of the answer"),
        (Problem(400, "x", headers={"x y": "a"}), "has a name it must not: 'x y'"),
        (Problem(400, "x", headers={"": "a"}), "has a name it must not"),
        (Problem(400, "x", headers={"a:b\r\nc": "a"}), "has a name it must not"),
        (Problem(399, "x"), "a Problem with the status 399, which is none of an error"),
        (Problem(204, "x"), "the status 204"),
        (Problem(600, "x"), "the status 600"),
    ],
)
def test_what_cannot_be_an_answer_is_the_error_of_its_author(returned: object, told: str) -> None:
    with pytest.raises(HandlerError, match=told):
        render(returned)


@pytest.mark.parametrize("returned", [Problem(1_000, "x"), Problem(99, "x"), Problem(400, "x", headers={"a b": "c"})])
async def test_the_caller_gets_500_for_it_and_a_connection_that_can_be_used(tmp_path: Path, returned: object) -> None:
    async def give(ctx: HttpContext) -> object:
        return returned

    async with Rig(tmp_path, Http("GET", "/", give, public=True)).client() as client:
        for _ in range(2):
            answer = await client.get("/")
            assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})


LARGE = render(["x" * GZIP_BYTES_MIN])


@pytest.mark.parametrize(
    ("accept", "is_taken"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("*", True),
        ("deflate, gzip;q=0.5", True),
        ("deflate , gzip ; q=0.001", True),
        ("br;q=1.0, gzip;q=1", True),
        ("*;q=0, gzip", True),
        ("gzip, *;q=0", True),
        ("", False),
        ("identity", False),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("xgzip", False),
        (",;,=", False),
    ],
)
def test_gzip_is_for_callers_that_take_it(accept: str, is_taken: bool) -> None:
    answer = compressed(LARGE, accept)
    assert (answer.headers.get("content-encoding") == "gzip") == is_taken
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (gzip.decompress(answer.body) if is_taken else answer.body) == LARGE.body
    assert answer == compressed(LARGE, accept)  # byte for byte: gzip's time would make every answer another


def test_small_answers_stay_as_they_are_and_vary_is_added_to() -> None:
    small = Rendered(200, JSON, b"x" * (GZIP_BYTES_MIN - 1))
    assert compressed(small, "gzip") is small
    varied = Rendered(404, {**JSON, "vary": "Origin"}, b"x" * GZIP_BYTES_MIN)
    assert compressed(varied, "gzip").headers["vary"] == "Origin, Accept-Encoding"
    assert compressed(varied, "gzip").status == 404


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/xml;q=0.9", "", "nonsense"])
async def test_whatever_is_accepted_the_answer_is_json_and_head_has_its_headers(tmp_path: Path, accept: str) -> None:
    async def give(ctx: HttpContext) -> list[str]:
        return ["x" * 5_000]

    headers = {"accept": accept, "accept-encoding": "gzip"}
    async with Rig(tmp_path, Http("GET", "/", give, public=True)).client() as client:
        full, head = await client.get("/", headers=headers), await client.head("/", headers=headers)
        plain = await client.get("/", headers={"accept-encoding": "identity"})
    assert full.json() == plain.json() == ["x" * 5_000]
    assert (full.headers["content-type"], full.headers["content-encoding"]) == ("application/json", "gzip")
    for name in ("content-type", "content-encoding", "content-length", "vary"):
        assert head.headers[name] == full.headers[name]
    assert plain.headers["content-length"] == str(len(json.dumps(["x" * 5_000])))


async def test_an_accept_encoding_in_two_lines_is_one(tmp_path: Path) -> None:
    async def give(ctx: HttpContext) -> list[str]:
        return ["x" * 5_000]

    headers: list[Any] = [("accept-encoding", "gzip"), ("accept-encoding", "br")]
    async with Rig(tmp_path, Http("GET", "/", give, public=True)).client() as client:
        assert (await client.get("/", headers=headers)).headers["content-encoding"] == "gzip"


def test_an_error_of_the_gateway_is_rendered_as_any() -> None:
    assert problem(Problem(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})) == Rendered(
        401, {**JSON, "www-authenticate": "Bearer"}, b'{"error":"Unauthorized"}'
    )
