"""What a handler's annotations say, and the handlers that no request could call."""

import functools
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from streamproc import Answer, App, Body, ConfigError, Created, Http, HttpContext, Problem, testing
from streamproc.http.signature import signature


class Colour(Enum):
    RED = "red"


class New(Body):
    name: str


class View(Answer):
    id: str


async def whole(
    id: Annotated[int, Meta(ge=1)],
    new: New,
    ctx: HttpContext[Any],
    *,
    limit: int = 20,
    colour: Colour | None = None,
    way: Literal["up", "down"] = "up",
    untyped="",  # type: ignore[no-untyped-def]
) -> Created[View] | Problem: ...


def test_parameters_come_from_where_they_can() -> None:
    found = signature(Http("PUT", "/things/{id}", whole))
    assert list(found.path) == ["id"]
    assert found.path["id"].type == Annotated[int, Meta(ge=1)]
    assert {name: one.default for name, one in found.query.items()} == {
        "limit": 20,
        "colour": None,
        "way": "up",
        "untyped": "",
    }
    assert (found.body_name, found.body_type, found.answer) == ("new", New, Created[View] | Problem)
    assert [one.required for one in (*found.path.values(), *found.query.values())] == [True] + [False] * 4
    assert [one.is_text for one in found.query.values()] == [False, False, False, True]


def test_a_parameter_of_the_path_is_required_whatever_its_default() -> None:
    async def find(ctx: HttpContext, id: str = "x") -> None: ...

    assert signature(Http("GET", "/{id}", find)).path["id"].required


@pytest.mark.parametrize(
    ("hint", "is_query"),
    [
        (str, True),
        (Annotated[str, Meta(max_length=3)], True),
        (int | None, True),
        (str | int | None, True),
        (date, True),
        (datetime | None, True),
        (Annotated[datetime, Meta(tz=True)] | None, True),
        (Annotated[Literal["a"] | None, Meta()], True),
        (bytes, False),
        (list[str], False),
        (dict[str, int], False),
        (str | list[str], False),
        (New, False),
        (New | None, False),
        (Any, False),
    ],
)
def test_simple_types_are_of_the_query_and_others_of_the_body(hint: Any, is_query: bool) -> None:
    async def function(x: Any, ctx: HttpContext) -> None: ...

    function.__annotations__["x"] = hint
    found = signature(Http("POST", "/", function))
    assert (list(found.query), found.body_name) == ((["x"], "") if is_query else ([], "x"))


async def between(
    ctx: HttpContext, from_: datetime, class_: Annotated[str, Meta(max_length=3)] = "", to_: int = 0, in__: int = 0
) -> str:
    return f"{from_:%Y} {class_} {to_} {in__}"


def test_a_keyword_is_written_with_an_underscore_in_python_only() -> None:
    query = signature(Http("GET", "/", between)).query
    assert {name: one.argument for name, one in query.items()} == {
        "from": "from_",
        "class": "class_",
        "to_": "to_",
        "in__": "in__",
    }
    assert (query["from"].required, query["class"].default) == (True, "")


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("GET /?from=2026-01-02T00:00:00Z&class=a", 200, "2026 a 0 0"),
        ("GET /?from=2026-01-02T00:00:00Z&to_=1&in__=2&class_=b&from_=now", 200, "2026  1 2"),
        ("GET /", 400, {"from": "required"}),
        ("GET /?from_=2026-01-02T00:00:00Z", 400, {"from": "required"}),
        ("GET /?from=now&class=abcd", 400, {"from": "invalid RFC3339 encoded datetime", "class": "expected `str` of"}),
        ("GET /?from=1700000000", 400, {"from": "invalid RFC3339 encoded datetime"}),
        ("GET /?from=1e9", 400, {"from": "invalid RFC3339 encoded datetime"}),
        ("GET /?from=null", 400, {"from": ""}),
        ("GET /?from=1&from=2", 400, {"from": "given twice"}),
        ("GET /?from=%00", 400, {"from": "must not hold the character NUL"}),
    ],
)
async def test_callers_know_nothing_of_that_underscore(line: str, status: int, told: Any) -> None:
    answer = await testing.request(App(functions=[Http("GET", "/", between)]), line)
    assert answer.status == status
    if isinstance(told, str):
        assert answer.json() == told
    else:
        fields = answer.json()["fields"]
        assert fields.keys() == told.keys()
        assert all(fields[name].startswith(text) for name, text in told.items())


@pytest.mark.parametrize(
    ("hint", "of_number", "of_null"),
    [
        (datetime, 400, 400),
        (datetime | None, 400, 200),
        (Annotated[datetime, Meta(tz=True)] | None, 400, 200),
        (Annotated[datetime | None, Meta(description="x")], 400, 200),
        (date, 400, 400),
        (datetime | int, 200, 400),
    ],
)
async def test_a_time_is_written_out_and_no_number(hint: Any, of_number: int, of_null: int) -> None:
    async def function(ctx: HttpContext, x: Any) -> None: ...

    function.__annotations__["x"] = hint
    app = App(functions=[Http("GET", "/", function)])
    written = "2026-01-02" if hint is date else "2026-01-02T00:00:00Z"
    answers = [await testing.request(app, f"GET /?x={text}") for text in (written, "5", "null")]
    assert [200 if answer.status == 204 else answer.status for answer in answers] == [200, of_number, of_null]


def test_a_parameter_of_the_path_keeps_its_underscore() -> None:
    async def find(from_: str, ctx: HttpContext) -> None: ...

    found = signature(Http("GET", "/{from_:path}", find))
    assert (list(found.path), found.path["from_"].argument, list(found.query)) == (["from_"], "from_", [])


def test_callables_of_other_kinds_are_read_as_functions() -> None:
    class Adder:
        async def __call__(self, n: int, ctx: HttpContext, m: int = 1) -> int:
            return n + m

    async def both(n: int, m: int, ctx: HttpContext) -> int:
        return n + m

    assert list(signature(Http("GET", "/{n}", Adder().__call__, name="add")).query) == ["m"]
    assert list(signature(Http("GET", "/{n}", functools.wraps(both)(lambda **given: both(**given)))).query) == ["m"]


async def no_context(id: str) -> None: ...
async def two_bodies(a: New, b: list[int], ctx: HttpContext) -> None: ...
async def unknown(a: "Nowhere", ctx: HttpContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def by_position(a: str, /, ctx: HttpContext) -> None: ...
async def many(*a: str, ctx: HttpContext) -> None: ...
async def named(ctx: HttpContext, **a: str) -> None: ...
async def body_in_path(a: New, ctx: HttpContext) -> None: ...
async def list_in_path(a: list[int], ctx: HttpContext) -> None: ...


@pytest.mark.parametrize(
    ("path", "handler", "told"),
    [
        ("/", no_context, "no_context: it must take a parameter named ctx"),
        ("/{a}", no_context, "no_context: it must take a parameter named ctx"),
        ("/{b:path}", by_position, r"by_position: the path names \{b\}, which it does not take"),
        ("/{b}", by_position, r"by_position: the path names \{b\}, which it does not take"),
        ("/", two_bodies, "two_bodies: a and b cannot both be the body"),
        ("/", unknown, "unknown: its annotations cannot be read: name 'Nowhere' is not defined"),
        ("/", by_position, "by_position: it is called with names, which its parameter 'a' has no use for"),
        ("/{a}", by_position, "by_position: it is called with names"),
        ("/", many, "many: it is called with names, which its parameter 'a' has no use for"),
        ("/", named, "named: it is called with names, which its parameter 'a' has no use for"),
        ("/{ctx}", named, r"named: \{ctx\} of the path cannot become .*HttpContext"),
        ("/{a}", body_in_path, r"body_in_path: \{a\} of the path cannot become .*New"),
        ("/{a}", list_in_path, r"list_in_path: \{a\} of the path cannot become list\[int\]"),
        ("/", int, "f: its annotations cannot be read"),
    ],
)
def test_what_no_request_could_call_is_refused(path: str, handler: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        signature(Http("GET", path, handler, name=getattr(handler, "__name__", "f").replace("int", "f")))
