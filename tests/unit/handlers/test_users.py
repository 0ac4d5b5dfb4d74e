"""`/users`, through the gateway onto the real store: signing up, finding, and paging."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from handlers.app import app
from handlers.services import Services
from handlers.stores.users import Users
from streamproc.errors import StoreError
from tests.unit.handlers.conftest import Query
from tests.unit.http.rig import Rig

ADA = {"email": "ada@example.com", "name": "Ada"}
ALL = ("users:write", "users:read")


@pytest.fixture
def made(tmp_path: Path, services: Services) -> Rig:
    return Rig(tmp_path, *app.http_functions, services=services)


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[httpx2.AsyncClient]:
    async with made.client(*ALL) as client:
        yield client


async def test_a_user_signs_up_and_is_found_by_its_id(client: httpx2.AsyncClient, made: Rig, query: Query) -> None:
    created = await client.post("/users", json=ADA)
    assert created.status_code == 201
    user = created.json()
    assert user == ADA | {"id": user["id"], "createdAt": user["createdAt"]}
    assert created.headers["location"] == f"/users/{user['id']}"
    found = await client.get(created.headers["location"])
    assert (found.status_code, found.json()) == (200, user)
    assert made.stored == 1
    assert [key.decode() for (key,) in query("SELECT key FROM outbox")] == [user["id"]]


async def test_an_email_signs_up_once_however_it_is_written(client: httpx2.AsyncClient, query: Query) -> None:
    assert (await client.post("/users", json=ADA)).status_code == 201
    for email in ("ada@example.com", "ADA@example.com", "Ada@Example.COM"):
        answer = await client.post("/users", json={"email": email, "name": "Other"})
        assert (answer.status_code, answer.json()) == (409, {"error": "A user with this email exists"})
    assert query("SELECT count(*) FROM users") == query("SELECT count(*) FROM outbox") == [(1,)]


async def test_a_repeat_with_its_key_finds_the_first(client: httpx2.AsyncClient, made: Rig, query: Query) -> None:
    headers = {"idempotency-key": "k"}
    answers = [await client.post("/users", json=ADA, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.content for answer in answers}) == 1
    for body in (ADA | {"name": "Eve"}, ADA | {"email": "eve@example.com"}):
        answer = await client.post("/users", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (
            422,
            "This Idempotency-Key was used for another request",
        )
    another = made.token(*ALL, subject="u-2")
    assert (await client.post("/users", json=ADA, headers=headers | another)).status_code == 409
    assert query("SELECT count(*) FROM outbox") == [(1,)]


@pytest.mark.parametrize(
    "email",
    ["a@b.c", "a.b+c@d-e.f.g", "!#$%&'*+/?=^_`{|}~-@a.b", "x" * 242 + "@example.com"],
)
async def test_addresses_are_taken(client: httpx2.AsyncClient, email: str) -> None:
    assert (await client.post("/users", json={"email": email, "name": "A"})).json()["email"] == email


@pytest.mark.parametrize(
    "email",
    ["a", "a@", "@b.c", "a@b", "a@b.", "a@.b", "a b@c.d", "a@b c.d", "a@b.c\n", "a@b.c\r\nBcc: d@e.f", "a@b.c\0",
     "a@b@c.d", "a,b@c.d", '"a b"@c.d', "<a@b.c>", "a@b.c>", "ä@b.c", "a@bä.c", "a@b.c ", " a@b.c", "a@b..c",
     "a@[127.0.0.1]", "x" * 243 + "@example.com", "a@b.c;d@e.f", "a(c)@b.c", "a\u2028@b.c", "=?utf-8?q?a?=@b.c", 5, []],
)  # fmt: skip
async def test_what_is_no_address_is_not(client: httpx2.AsyncClient, email: Any, query: Query) -> None:
    answer = await client.post("/users", json={"email": email, "name": "A"})
    told = {"error": "Invalid request", "fields": {"email": "must be an email address"}}
    assert (answer.status_code, answer.json()) == (400, told)
    assert query("SELECT count(*) FROM users") == [(0,)]


HOSTILE = ["' OR 1=1 --", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "{{7*7}}", "%s%n", "../etc", "\\u0000",
           "'); DROP TABLE users;--", "\N{RIGHT-TO-LEFT OVERRIDE}a", "\N{PILE OF POO}" * 200, " ", "null"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_are_kept_as_they_are(client: httpx2.AsyncClient, name: str) -> None:
    created = await client.post("/users", json=ADA | {"name": name})
    assert (created.status_code, created.json()["name"]) == (201, name)
    assert (await client.get(created.headers["location"])).json()["name"] == name


@pytest.mark.parametrize(
    "name", ["a\n", "\n", "a\r\nb", "a\tb", "a\x7f", "a\x85b", "a\u2028", "a\u2029b", "x" * 201, 7]
)
async def test_names_with_characters_that_end_a_line_are_refused(client: httpx2.AsyncClient, name: Any) -> None:
    answer = await client.post("/users", json=ADA | {"name": name})
    told = {"name": "must be 1 to 200 characters, none of them a control character"}
    assert (answer.status_code, answer.json()["fields"]) == (400, told)


async def test_what_is_missing_is_asked_for_and_what_is_unknown_refused(client: httpx2.AsyncClient) -> None:
    for body in ({}, {"email": "a@b.c"}, ADA | {"name": ""}, ADA | {"email": None}):
        assert (await client.post("/users", json=body)).json() == {"error": "Email and name required"}
    for name in ("id", "createdAt", "isAdmin"):
        assert (await client.post("/users", json=ADA | {name: "x"})).json()["fields"] == {name: "not a known field"}


@pytest.mark.parametrize("id", [*HOSTILE[:6], "x" * 200, "\ufffd", "%", "_", "."])
async def test_an_id_nobody_has_is_404_whatever_it_holds(client: httpx2.AsyncClient, id: str) -> None:
    answer = await client.get(f"/users/{httpx2.URL('http://x').copy_with(path='/' + id).raw_path.decode()[1:]}")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})


@pytest.mark.parametrize(("id", "status"), [("x" * 201, 400), ("%00", 400), ("", 404), ("a/b", 404)])
async def test_what_is_no_id_is_refused(client: httpx2.AsyncClient, id: str, status: int) -> None:
    assert (await client.get(f"/users/{id}")).status_code == status


async def test_pages_hold_each_user_once_in_the_order_of_ids(client: httpx2.AsyncClient) -> None:
    made = [(await client.post("/users", json={"email": f"{n}@b.c", "name": "A"})).json()["id"] for n in range(7)]
    found: list[str] = []
    after, pages = "", 0
    while pages == 0 or after:
        page = (await client.get("/users", params={"limit": 3, "next": after})).json()
        found += [user["id"] for user in page["users"]]
        after, pages = page["next"], pages + 1
    assert (found, pages) == (sorted(made), 3)
    assert (await client.get("/users?limit=7")).json()["next"] is None
    assert len((await client.get("/users")).json()["users"]) == 7


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1&limit=2", "next=%00", "limit=1e400"])
async def test_what_is_no_page_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/users?{query}")).status_code == 400


@pytest.mark.parametrize("after", [*HOSTILE, "x" * 5_000])
async def test_any_cursor_gives_a_page(client: httpx2.AsyncClient, after: str) -> None:
    assert (await client.get("/users", params={"next": after})).json() == {"users": [], "next": None}


@pytest.mark.parametrize("scopes", [("users:read",), ("orders:write",), ("",)])
async def test_each_route_asks_for_its_scope(made: Rig, scopes: tuple[str, ...]) -> None:
    async with made.client(*scopes) as client:
        can_read = "users:read" in scopes
        assert (await client.post("/users", json=ADA)).status_code == 403
        assert (await client.get("/users")).status_code == (200 if can_read else 403)
        assert (await client.get("/users/x")).status_code == (404 if can_read else 403)


async def test_a_store_that_is_gone_is_503(tmp_path: Path, services: Services) -> None:
    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise StoreError("the database does not answer")

    users: Users = Gone()  # type: ignore[assignment]
    made = Rig(tmp_path, *app.http_functions, services=replace(services, users=users))
    async with made.client(*ALL) as client:
        for answer in (await client.post("/users", json=ADA), await client.get("/users/x"), await client.get("/users")):
            assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (
                503,
                {"error": "Service unavailable"},
                "1",
            )
