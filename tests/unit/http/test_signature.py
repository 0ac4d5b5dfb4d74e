"""What a handler's annotations say, and the handlers that no request could call."""

import functools
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from streamproc import Answer, Body, ConfigError, Created, Http, HttpContext, Problem
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
