"""A request's whole life: what is refused, in which order, and what the caller is told."""

import asyncio
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from streamproc import Accepted, Answer, Body, Created, Event, Http, HttpContext, NoContent, Problem
from streamproc.errors import BrokerError, StoreError
from tests.unit.http.rig import JSON_DOCUMENT, Rig


class NewThing(Body):
    name: str
    size: int


class Thing(Answer):
    thing_id: str
    size: int = 0


class ThingMade(Event, tag="thing.made"):
    name: str


async def make(new: NewThing, ctx: HttpContext) -> Created[Thing]:
    return Created(Thing(thing_id=ctx.new_id(), size=new.size), location="/things/t-1")


async def find(id: str, ctx: HttpContext) -> Thing | Problem:
    return Thing(thing_id=id) if id != "none" else Problem(404, "No such thing")


async def fail(ctx: HttpContext) -> Thing:
    raise ValueError("secret cause")


def rig(folder: Path, *more: Http, **options: Any) -> Rig:
    things = [Http("POST", "/things", make, scope="things:write"), Http("GET", "/things/{id}", find, public=True)]
    return Rig(folder, *things, *more, **options)


async def test_a_body_becomes_an_argument_and_the_answer_has_its_status(tmp_path: Path) -> None:
    async with rig(tmp_path).client("things:write") as client:
        answer = await client.post("/things", json={"name": "a", "size": 3})
    assert (answer.status_code, answer.headers["location"]) == (201, "/things/t-1")
    assert answer.json()["size"] == 3
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "Unauthorized"),
        ({"authorization": ""}, "Unauthorized"),
        ({"authorization": "Basic YTpi"}, "Unauthorized"),
        ({"authorization": "Bearer"}, "Unauthorized"),
        ({"authorization": "Bearer  "}, "Unauthorized"),
        ({"authorization": "Bearer x"}, "Invalid token"),
        ({"authorization": "bearer a.b.c"}, "Invalid token"),
    ],
)
async def test_without_a_good_token_nothing_is_read(tmp_path: Path, headers: dict[str, str], error: str) -> None:
    async def body() -> Any:
        raise AssertionError("the body was read")
        yield b""

    async with rig(tmp_path).client() as client:
        answer = await client.post("/things", content=body(), headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": error})
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_must_allow_the_scope(tmp_path: Path) -> None:
    async with rig(tmp_path).client("things:read") as client:
        answer = await client.post("/things", json={})
    assert (answer.status_code, answer.json()) == (403, {"error": "Forbidden"})
    assert 'scope="things:write"' in answer.headers["www-authenticate"]


async def test_a_token_ends(tmp_path: Path) -> None:
    made = rig(tmp_path)
    async with made.client("things:write") as client:
        assert (await client.post("/things", json={"name": "a", "size": 1})).status_code == 201
        made.now += 3_700
        assert (await client.post("/things", json={"name": "a", "size": 1})).status_code == 401


async def test_paths_and_methods_nobody_answers(tmp_path: Path) -> None:
    made = rig(tmp_path)
    async with made.client() as client:
        for path in ("/", "/nope", "/things/", "//things", "/things/a/b", "/Things/a"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (404, {"error": "Not found"}), path
        answer = await client.delete("/things/t-1")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert (await client.request("BREW", "/things")).status_code == 405
    assert made.gateway.snapshot().answers["other"] == {404: 6, 405: 2}


async def test_head_is_answered_as_get(tmp_path: Path) -> None:
    async with rig(tmp_path).client() as client:
        assert (await client.head("/things/t-1")).status_code == 200
        assert (await client.head("/things/none")).status_code == 404


async def test_what_a_function_raises_stays_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = rig(tmp_path, Http("GET", "/fail", fail, public=True))
    async with made.client() as client:
        answer = await client.get("/fail", headers={"x-request-id": "r-7"})
    assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})
    assert answer.headers["x-request-id"] == "r-7"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert getattr(record, "request_id") == "r-7"  # noqa: B009  (an extra field)
    assert record.exc_info is not None
    assert "secret cause" in str(record.exc_info[1])


@pytest.mark.parametrize("error", [StoreError("down"), BrokerError("down")])
async def test_what_may_be_repeated_is_503(tmp_path: Path, error: Exception) -> None:
    async def unlucky(ctx: HttpContext) -> None:
        raise error

    async with rig(tmp_path, Http("GET", "/x", unlucky, public=True)).client() as client:
        answer = await client.get("/x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("returned", "status", "body"),
    [
        (None, 204, b""),
        (NoContent(), 204, b""),
        (Thing(thing_id="a"), 200, b'{"thingId":"a","size":0}'),
        (Accepted(Thing(thing_id="a")), 202, b'{"thingId":"a","size":0}'),
        ([1, 2], 200, b"[1,2]"),
        (Problem(418, "I am a teapot", {"pot": "short"}), 418, b'{"error":"I am a teapot","fields":{"pot":"short"}}'),
        (object(), 500, b'{"error":"Internal server error"}'),
        (Created(1, location="/a\r\nx: y"), 500, b'{"error":"Internal server error"}'),
        (Problem(400, "x", headers={"x": "a\nb"}), 500, b'{"error":"Internal server error"}'),
    ],
)
async def test_what_a_function_may_return(tmp_path: Path, returned: object, status: int, body: bytes) -> None:
    async def give(ctx: HttpContext) -> object:
        return returned

    async with rig(tmp_path, Http("GET", "/x", give, public=True)).client() as client:
        answer = await client.get("/x")
    assert (answer.status_code, answer.content) == (status, body)


async def test_an_emitted_event_is_with_the_broker_before_the_answer(tmp_path: Path) -> None:
    async def tell(ctx: HttpContext) -> Accepted[int]:
        ctx.emit(ThingMade(name="a"), key="k", event_id="e-1")
        return Accepted(1)

    made = rig(tmp_path, Http("POST", "/tell", tell, public=True))
    async with made.client() as client:
        assert (await client.post("/tell")).status_code == 202
        [record] = made.producer.records()
        assert (record.key, json.loads(record.value or b"")["eventID"]) == (b"k", "e-1")
        made.producer.down = True
        answer = await client.post("/tell")
    assert (answer.status_code, answer.json()) == (503, {"error": "Service unavailable"})
    assert len(made.producer.records()) == 1


async def test_the_relay_is_told_when_something_was_stored(tmp_path: Path) -> None:
    async def store(ctx: HttpContext, failing: bool = False) -> None:
        ctx.event(ThingMade(name="a"), key="k")
        if failing:
            raise ValueError

    made = rig(tmp_path, Http("POST", "/store", store, public=True))
    async with made.client() as client:
        await client.post("/store")
        await client.post("/store?failing=true")
        await client.get("/things/a")
    assert made.stored == 2


async def test_ids_are_the_same_for_the_same_idempotency_key_only(tmp_path: Path) -> None:
    made = rig(tmp_path)

    async def make_with(key: str | None, subject: str = "u-1") -> str:
        headers = made.token("things:write", subject=subject) | ({"idempotency-key": key} if key is not None else {})
        async with made.client() as client:
            answer = await client.post("/things", json={"name": "a", "size": 1}, headers=headers)
            return str(answer.json()["thingId"])

    assert await make_with("k") == await make_with("k")
    different = [await make_with("k"), await make_with("l"), await make_with("k", "u-2"), await make_with(None)]
    assert len({*different, await make_with(None)}) == 5


@pytest.mark.parametrize("key", ["x" * 256, "a\tb", "\xe4"])
async def test_an_idempotency_key_is_short_printable_ascii(tmp_path: Path, key: str) -> None:
    async with rig(tmp_path).client("things:write") as client:
        headers = {"idempotency-key": key.encode("latin-1")}
        answer = await client.post("/things", json={"name": "a", "size": 1}, headers=headers)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["Idempotency-Key"])


async def test_a_function_has_a_time_limit(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def wait(ctx: HttpContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    made = rig(tmp_path, Http("GET", "/wait", wait, public=True, timeout_s=0.1))
    async with made.client() as client:
        answer = await client.get("/wait")
    assert (answer.status_code, ended.is_set()) == (504, True)
    assert made.gateway.snapshot().functions[-1].in_flight == 0


async def test_a_thread_that_hangs_is_left_behind_and_holds_its_place(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(ctx: HttpContext) -> None:
        release.wait(60)

    made = rig(tmp_path, Http("GET", "/hang", hang, public=True, timeout_s=0.1, concurrency=1))
    async with made.client() as client:
        assert (await client.get("/hang")).status_code == 504
        answer = await client.get("/hang")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        release.set()
        async with asyncio.timeout(10):
            while (await client.get("/hang")).status_code != 204:
                await asyncio.sleep(0)


async def test_only_so_many_calls_run_at_once(tmp_path: Path) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def wait(ctx: HttpContext) -> None:
        begun.set()
        await release.wait()

    made = rig(tmp_path, Http("GET", "/wait", wait, public=True, concurrency=1))
    async with made.client() as client:
        first = asyncio.ensure_future(client.get("/wait"))
        await begun.wait()
        assert (await client.get("/wait")).status_code == 503
        release.set()
        assert (await first).status_code == 204


async def test_callers_are_limited_each_for_itself(tmp_path: Path) -> None:
    async def ping(ctx: HttpContext) -> None: ...

    made = rig(tmp_path, Http("GET", "/ping", ping, rate_per_s=2))

    async def pings(subject: str, count: int) -> list[int]:
        async with made.client() as client:
            return [(await client.get("/ping", headers=made.token(subject=subject))).status_code for _ in range(count)]

    assert await pings("u-1", 3) == [204, 204, 429]
    assert await pings("u-2", 1) == [204]
    made.now += 0.5
    assert await pings("u-1", 2) == [204, 429]


async def test_documents_need_any_token(tmp_path: Path) -> None:
    made = rig(tmp_path, documents={"/openapi.json": JSON_DOCUMENT})
    async with made.client() as client:
        assert (await client.get("/openapi.json")).status_code == 401
    async with made.client("") as client:
        assert (await client.get("/openapi.json")).json() == {}


async def test_the_access_log_names_what_happened_and_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamproc.access")
    made = rig(tmp_path, access_log=True)
    async with made.client("things:write") as client:
        await client.post("/things?token=hunter2", json={"name": "hunter2", "size": 1})
    [record] = [record for record in caplog.records if record.name == "streamproc.access"]
    fields = record.__dict__
    assert (fields["function"], fields["method"], fields["path"]) == ("make", "POST", "/things")
    assert (fields["status"], fields["caller"]) == (201, "u-1")
    assert "hunter2" not in str(fields)
    assert "Bearer" not in str(fields)
