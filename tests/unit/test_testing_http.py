"""Requests for authors of functions: the real gateway, without what is around it."""

import json

import pytest

from streamproc import Answer, App, Body, Created, Event, Http, HttpContext, testing
from streamproc.errors import ConfigError


class NewThing(Body):
    name: str


class Thing(Answer):
    id: str
    name: str


class ThingMade(Event, tag="thing.made"):
    name: str


async def make(new: NewThing, ctx: HttpContext[str]) -> Created[Thing]:
    ctx.emit(ThingMade(name=new.name), key="k", event_id="e-1")
    return Created(Thing(id=ctx.new_id(), name=ctx.services + new.name), location="/things/1")


async def find(id: str, ctx: HttpContext[str], upper: bool = False) -> Thing:
    assert ctx.caller is not None
    return Thing(id=id.upper() if upper else id, name=ctx.caller.subject)


app = App(functions=[Http("POST", "/things", make, scope="a:write"), Http("GET", "/things/{id}", find, scope="a:read")])


async def test_a_request_is_answered_with_what_it_emitted() -> None:
    answer = await testing.request(app, "POST /things", {"name": "x"}, services="the ")
    assert (answer.status, answer.headers["location"], answer.json()["name"]) == (201, "/things/1", "the x")
    [record] = answer.emitted
    assert (record.topic, record.key, json.loads(record.value or b"")["eventID"]) == ("events", b"k", "e-1")


async def test_path_query_and_caller_are_those_of_a_real_request() -> None:
    answer = await testing.request(app, "GET /things/a%20b?upper=true")
    assert answer.json() == {"id": "A B", "name": "test"}


async def test_headers_reach_the_function() -> None:
    first, again = [
        await testing.request(app, "POST /things", {"name": "x"}, services="", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert first.json() == again.json()


@pytest.mark.parametrize(
    ("line", "body", "status"),
    [
        ("POST /things", {}, 400),
        ("POST /things", None, 400),
        ("GET /nothing", None, 404),
        ("PUT /things", None, 405),
    ],
)
async def test_what_is_refused_is_refused_here_too(line: str, body: object, status: int) -> None:
    answer = await testing.request(app, line, body, services="")
    assert (answer.status, answer.emitted) == (status, [])
    assert set(answer.json()) == {"error"}


async def test_a_handler_that_no_request_could_call_is_refused() -> None:
    async def wrong() -> None: ...

    with pytest.raises(ConfigError, match="wrong: it must take a parameter named ctx"):
        await testing.request(App(functions=[Http("GET", "/", wrong)]), "GET /")
