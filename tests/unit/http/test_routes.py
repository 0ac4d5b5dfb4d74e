"""Which function answers a path, and that no spelling of a path gets around what a route asks for."""

from pathlib import Path

import pytest

from streamproc import App, Http, HttpContext
from streamproc.http.routes import Found, Routes
from streamproc.testing import request
from tests.unit.http.rig import JSON_DOCUMENT, Rig

ROUTES = Routes(
    [
        ("GET", "/users/{id}", "find"),
        ("PUT", "/users/{id}", "put"),
        ("GET", "/users/me", "me"),
        ("GET", "/users/{id}/orders/{order}", "order"),
        ("GET", "/{kind}/all", "all"),
        ("POST", "/a.b~c-d", "dotted"),
        ("GET", "/", "root"),
    ]
)


@pytest.mark.parametrize(
    ("path", "methods", "values"),
    [
        ("/users/1", {"GET": "find", "PUT": "put"}, {"id": "1"}),
        ("/users/me", {"GET": "me"}, {}),
        ("/users/all", {"GET": "find", "PUT": "put"}, {"id": "all"}),  # the list's order decides
        ("/orders/all", {"GET": "all"}, {"kind": "orders"}),
        ("/users/1/orders/2", {"GET": "order"}, {"id": "1", "order": "2"}),
        ("/users/a b\r\n\N{SNOWMAN}", {"GET": "find", "PUT": "put"}, {"id": "a b\r\n\N{SNOWMAN}"}),
        ("/users/..", {"GET": "find", "PUT": "put"}, {"id": ".."}),
        ("/users/{id}", {"GET": "find", "PUT": "put"}, {"id": "{id}"}),
        ("/a.b~c-d", {"POST": "dotted"}, {}),
        ("/", {"GET": "root"}, {}),
    ],
)
def test_a_path_has_its_functions_and_values(path: str, methods: dict[str, str], values: dict[str, str]) -> None:
    assert ROUTES.find(path) == Found(methods, values)


@pytest.mark.parametrize(
    "path",
    ["", "users/1", "/users", "/users/", "//users/1", "/users//1", "/users/1/", "/Users/1", "/users/1/orders",
     "/users/1/orders/2/3", "/a-b~c-d", "/aXb~c-d", "/users/1\n/orders/2/", "*", "/users/1/orders/"],
)  # fmt: skip
def test_other_paths_have_none(path: str) -> None:
    assert ROUTES.find(path) is None


RESTS = Routes(
    [
        ("GET", "/files/{key:path}", "get"),
        ("PUT", "/files/{key:path}", "put"),
        ("GET", "/files/{one}/size", "size"),
        ("GET", "/files/all", "all"),
        ("GET", "/{kind}/{key:path}", "other"),
    ]
)
FILE = {"GET": "get", "PUT": "put"}


@pytest.mark.parametrize(
    ("path", "methods", "values"),
    [
        ("/files/a", FILE, {"key": "a"}),
        ("/files/a/b.c/d", FILE, {"key": "a/b.c/d"}),
        ("/files/a/", FILE, {"key": "a/"}),
        ("/files//", FILE, {"key": "/"}),
        ("/files/a//b", FILE, {"key": "a//b"}),
        ("/files/../x", FILE, {"key": "../x"}),
        ("/files/a\nb\n", FILE, {"key": "a\nb\n"}),
        ("/files/{key:path}", FILE, {"key": "{key:path}"}),
        ("/files/all", {"GET": "all"}, {}),
        ("/files/all/", FILE, {"key": "all/"}),
        ("/files/a/size", {"GET": "size"}, {"one": "a"}),  # although it stands after what takes the rest
        ("/files/a/b/size", FILE, {"key": "a/b/size"}),
        ("/notes/a/b", {"GET": "other"}, {"kind": "notes", "key": "a/b"}),
    ],
)
def test_the_rest_of_a_path_is_taken_when_nothing_else_answers_it(
    path: str, methods: dict[str, str], values: dict[str, str]
) -> None:
    assert RESTS.find(path) == Found(methods, values)


@pytest.mark.parametrize("path", ["/files/", "/files", "/", "", "files/a", "//", "//a"])
def test_the_rest_of_a_path_has_a_character_at_least(path: str) -> None:
    assert RESTS.find(path) is None


async def echo(key: str, ctx: HttpContext) -> str:
    return key


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a%20b/c", "a b/c"),
        ("a%2Fb", "a/b"),
        ("%2e%2e/%2E%2E", "../.."),
        ("%252e%252e%252f", "%2e%2e%2f"),  # decoded once
        ("a+b", "a+b"),
        ("%E2%98%83", "\N{SNOWMAN}"),
        ("x" * 5_000, "x" * 5_000),
    ],
)
async def test_the_rest_of_a_path_is_decoded_once_and_is_for_the_function_to_judge(path: str, key: str) -> None:
    app = App(functions=[Http("GET", "/files/{key:path}", echo)])
    assert (await request(app, f"GET /files/{path}")).json() == key


@pytest.mark.parametrize("path", ["%00", "a/%00", "%00/../b"])
async def test_the_rest_of_a_path_holds_no_nul(path: str) -> None:
    app = App(functions=[Http("GET", "/files/{key:path}", echo)])
    answer = await request(app, f"GET /files/{path}")
    assert (answer.status, answer.json()["fields"]) == (400, {"key": "must not hold the character NUL"})


def test_allow_names_head_where_there_is_get() -> None:
    assert Found({"PUT": 1, "GET": 1, "DELETE": 1}, {}).allow == "DELETE, GET, HEAD, PUT"
    assert Found({"POST": 1}, {}).allow == "POST"


async def secret(ctx: HttpContext, id: str = "") -> str:
    return "secret"


def rig(folder: Path) -> Rig:
    return Rig(
        folder,
        Http("GET", "/secret", secret, scope="s"),
        Http("GET", "/secret/{id}", secret, scope="s", name="one"),
        Http("POST", "/secret", secret, scope="s", name="post"),
        Http("GET", "/rest/{id:path}", secret, scope="s", name="rest"),
        documents={"/openapi.json": JSON_DOCUMENT},
    )


@pytest.mark.parametrize(
    "path",
    ["/secret", "/secret/", "//secret", "/./secret", "/x/../secret", "/secret/..", "/secret/%2e%2e", "/%73ecret",
     "/secret%2F", "/secret%2Fa", "/SECRET", "/secret.", "/secret;a=b", "/secret%3Ba", "/secret%00", "/secret%20",
     "/secret%0a", "/secret/a%2Fb", "/secret?/../public", "/secret%23", "/secret%ff", "/secret\\", "/openapi.json",
     "/rest", "/rest/", "/rest//", "/rest/a", "/rest/a/b", "/rest/..", "/rest/../secret", "/rest/%2e%2e%2fsecret",
     "//openapi.json", "/openapi.json/", "/openapi.json%00", "/openapi%2ejson", "/OpenAPI.json"],
)  # fmt: skip
async def test_no_spelling_of_a_path_gets_around_the_token(tmp_path: Path, path: str) -> None:
    disguises = {"x-original-url": "/public", "x-rewrite-url": "/public", "x-forwarded-user": "u-1"}
    override = {"x-http-method-override": "OPTIONS", "x-method-override": "HEAD", "x-http-method": "GET"}
    made = rig(tmp_path)
    async with made.client() as client:
        for headers in ({}, disguises, override, {"host": "localhost"}, {"x-forwarded-for": "127.0.0.1"}):
            for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE", "GET ", "get"):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code in (401, 404, 405), (method, headers)
                assert "secret" not in answer.text
    assert sum(made.gateway.snapshot().functions[0].calls) == 0
    assert set(made.gateway.snapshot().answers) == {"secret", "one", "post", "rest", "other"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/secret", 403), ("HEAD", "/secret", 403), ("HEAD", "/secret/a", 403), ("OPTIONS", "/secret", 405),
     ("GET", "/openapi.json", 200), ("HEAD", "/openapi.json", 200), ("POST", "/openapi.json", 404)],
)  # fmt: skip
async def test_a_token_of_another_scope_reads_the_documents_only(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with rig(tmp_path).client("other") as client:
        assert (await client.request(method, path)).status_code == status


@pytest.mark.parametrize("first_is_good", [True, False])
async def test_of_two_tokens_none_counts(tmp_path: Path, first_is_good: bool) -> None:
    made = rig(tmp_path)
    good, bad = made.token("s")["authorization"], made.token("other")["authorization"]
    headers = [("authorization", one) for one in ((good, bad) if first_is_good else (bad, good))]
    async with made.client() as client:
        assert (await client.get("/secret", headers=headers)).status_code == 401
        assert (await client.get("/secret", headers=headers[:1])).status_code == (200 if first_is_good else 403)
