"""From a request's parts to arguments: what is taken, what is refused, and what the caller is told."""

import json
import tracemalloc
from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from streamproc import Body, Http, HttpContext
from streamproc.http.arguments import Arguments, Refusal
from streamproc.http.signature import signature

NUL = "must not hold the character NUL"


class Colour(Enum):
    RED = "red"


class Part(Body):
    sku: str
    count: int = 1


class Order(Body):
    email: Annotated[str, Meta(pattern="@", description="an email address")]
    name: Annotated[str, Meta(min_length=1)]
    size: int = 0
    weight: float = 0.0
    placed: datetime | None = None
    parts: tuple[Part, ...] = ()
    anything: Any = None


class Strict(Body):
    n: int

    def __post_init__(self) -> None:
        if self.n == 1:
            raise ValueError("n is one")
        if self.n == 2:
            raise KeyError("hidden")


def of_query(hint: Any, default: Any = ...) -> Arguments:
    """The arguments of a function with a query parameter `x` of this type."""

    async def function(ctx: HttpContext, x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__kwdefaults__ = None
    if default is not ...:
        function.__defaults__ = (default,)
    return Arguments(signature(Http("GET", "/", function)))


def of_body(hint: Any) -> Arguments:
    async def function(new: Any, ctx: HttpContext) -> None: ...

    function.__annotations__["new"] = hint
    return Arguments(signature(Http("POST", "/", function)))


def problems(arguments: Arguments, query: str | bytes, path: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(Refusal) as caught:
        arguments.of_parameters(path or {}, query if isinstance(query, bytes) else query.encode())
    assert (caught.value.problem.status, caught.value.problem.error) == (400, "Invalid request")
    return dict(caught.value.problem.fields)


def refused(body: str | bytes, hint: Any = Order, content_type: str = "application/json") -> tuple[Any, ...]:
    """Status, error and fields."""
    with pytest.raises(Refusal) as caught:
        of_body(hint).of_body(content_type, body if isinstance(body, bytes) else body.encode())
    problem = caught.value.problem
    return problem.status, problem.error, dict(problem.fields)


@pytest.mark.parametrize(
    ("hint", "query", "value"),
    [
        (str, "x=null", "null"),
        (str, "x=", ""),
        (str, "x=a+b%20c%C3%A9", "a b cé"),
        (str, "x=100%zz%", "100%zz%"),
        (str, "x=a%0d%0ab", "a\r\nb"),
        (int, "x=-7", -7),
        (int, "x=1e3", 1000),
        (float, "x=1.5", 1.5),
        (float, "x=1e-999", 0.0),
        (bool, "x=true", True),
        (bool, "x=0", False),
        (datetime, "x=2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (date, "x=2026-01-02", date(2026, 1, 2)),
        (Literal["up", "down"], "x=up", "up"),
        (Literal[1, 2], "x=2", 2),
        (Colour, "x=red", Colour.RED),
        (int | None, "x=5", 5),
        (int | None, "x=null", None),
        (str | None, "x=null", "null"),
        (Annotated[int, Meta(ge=1, le=100)], "x=100", 100),
        (Annotated[str, Meta(max_length=3)], "x=%C3%A9%C3%A9%C3%A9", "ééé"),
        (int, "y=1&x=2&z=%00&y=3", 2),
    ],
)
def test_text_becomes_what_is_annotated(hint: Any, query: str, value: Any) -> None:
    assert of_query(hint).of_parameters({}, query.encode()) == {"x": value}


@pytest.mark.parametrize(
    ("hint", "query", "told"),
    [
        (int, "", "required"),
        (int, "y=1", "required"),
        (int, "x=", "expected `int`, got `str`"),
        (int, "x=%205", "expected `int`, got `str`"),
        (int, "x=1_0", "expected `int`, got `str`"),
        (int, "x=%D9%A3", "expected `int`, got `str`"),
        (int, f"x={'9' * 5_000}", "integer value out of range"),
        (int, "x=0x5", "expected `int`, got `str`"),
        (float, "x=nan", "must be a finite number"),
        (float, "x=-inf", "must be a finite number"),
        (float | None, "x=Infinity", "must be a finite number"),
        (float, "x=1e999", "number out of range"),
        (bool, "x=yes", "expected `bool`, got `str`"),
        (datetime, "x=yesterday", "invalid RFC3339 encoded datetime"),
        (datetime, "x=99999-01-01T00:00:00Z", "invalid RFC3339 encoded datetime"),
        (Literal["up", "down"], "x=Up", "invalid enum value 'Up'"),
        (Literal[1, 2], f"x={'9' * 5_000}", "number out of range"),
        (Colour, "x=RED", "invalid enum value 'RED'"),
        (Annotated[int, Meta(ge=1, description="one or more")], "x=0", "must be one or more"),
        (Annotated[str, Meta(max_length=3)], "x=abcd", "expected `str` of length <= 3"),
        (str, "x=a%00b", NUL),
        (str, "x=a&x=a", "given twice"),
    ],
)
def test_text_that_is_something_else_is_told(hint: Any, query: str, told: str) -> None:
    assert problems(of_query(hint), query) == {"x": told}
    assert of_query(hint, None).of_parameters({}, b"y=1") == {}  # what has a default need not be given


@pytest.mark.parametrize(
    "query",
    [b"x=%ff", b"x=%ED%A0%80", b"%ff=1&x=1", b"x=\xc3\xa9", b"x=1&" + b"a=&" * 100, b"&".join([b"x"] * 101)],
    ids=["bytes", "surrogate", "name", "not ascii", "fields", "names"],
)
def test_what_is_no_query_string_is_refused_whole(query: bytes) -> None:
    assert problems(of_query(str), query) == {"query": "not a query string of at most 100 fields"}


def test_the_path_wins_over_the_query_and_is_checked_the_same() -> None:
    async def find(id: Annotated[int, Meta(ge=1)], ctx: HttpContext, after: str = "") -> None: ...

    arguments = Arguments(signature(Http("GET", "/things/{id}", find)))
    assert arguments.of_parameters({"id": "5"}, b"id=6&id=7&after=x") == {"id": 5, "after": "x"}
    assert problems(arguments, "after=%00", {"id": "0"}) == {"id": "expected `int` >= 1", "after": NUL}
    assert problems(arguments, "", {"id": "1\0"}) == {"id": NUL}


VALID = {"email": "a@b", "name": "A"}


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;charset=UTF-8",
     "application/merge-patch+json", "application/vnd.shop.v1+json;x=y"],
)  # fmt: skip
def test_what_calls_itself_json_is_read(content_type: str) -> None:
    assert of_body(Order).of_body(content_type, json.dumps(VALID).encode()) == {"new": Order(email="a@b", name="A")}


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "text/json", "application/jsonx", "application/x-json", "application/json, text/plain",
     "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json", "application/"],
)  # fmt: skip
def test_what_does_not_is_415_before_it_is_looked_into(content_type: str) -> None:
    assert refused(b"\xff", content_type=content_type) == (415, "Content-Type must be application/json", {})


@pytest.mark.parametrize(
    "body",
    ["", "{}", '{"email": "a@b"}', '{"email": null, "name": "A"}', '{"email": "", "name": "A"}',
     '{"name": "A", "x": 1}', '{"email":"a@b","name":  "" }', '{"email": "a@b", "name": null, "size": "x"}'],
)  # fmt: skip
def test_required_fields_are_asked_for_together(body: str) -> None:
    assert refused(body) == (400, "Email and name required", {})
    assert refused("{}", Part)[1] == "Sku required"
    assert refused('{"a": 1}', msgspec.defstruct("three", ["a", "b", "c"]))[1] == "A, b and c required"


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"size": "x"}, {"size": "expected `int`, got `str`"}),
        ({"size": "x", "weight": "y"}, {"size": "expected `int`, got `str`", "weight": "expected `float`, got `str`"}),
        ({"email": "nobody", "hidden": 1}, {"email": "must be an email address", "hidden": "not a known field"}),
        ({"placed": "soon", "size": 1.5}, {"placed": "invalid RFC3339 encoded datetime", "size": ...}),
        ({"parts": [{"sku": "a"}, {"sku": 2}]}, {"parts": "expected `str`, got `int`"}),
        ({"parts": [{"sku": "a", "x": 2}]}, {"parts": "object contains unknown field `x`"}),
        ({"parts": {}}, {"parts": "expected `array`, got `object`"}),
    ],
)
def test_all_wrong_fields_are_named(more: dict[str, Any], fields: dict[str, Any]) -> None:
    status, error, found = refused(json.dumps(VALID | more))
    assert (status, error, found.keys()) == (400, "Invalid request", fields.keys())
    assert all(told is ... or found[name] == told for name, told in fields.items())
    assert len(refused(json.dumps(VALID | more | dict.fromkeys(map(str, range(1_000)))))[2]) == 100


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"n": 1}', {"body": "n is one"}),
        ('{"n": 2}', {"body": "not accepted"}),
        ("[1]", {"body": "expected `object`, got `array`"}),
        ("null", {"body": "expected `object`, got `null`"}),
        (' {"n": true}', {"n": "expected `int`, got `bool`"}),
    ],
)
def test_the_check_of_a_body_is_told_but_no_other_error_of_it(body: str, told: dict[str, str]) -> None:
    assert refused(body, Strict) == (400, "Invalid request", told)


def test_one_of_a_list_is_told_where_it_is() -> None:
    hint = Part | Annotated[list[Part], Meta(min_length=1, max_length=2)]
    assert refused("[]", hint)[2] == {"body": "expected `array` of length >= 1"}
    assert refused(json.dumps([{"sku": "a"}] * 3), hint)[2] == {"body": "expected `array` of length <= 2"}
    assert refused('[{"sku": 1}]', hint)[2] == {"body": "expected `str`, got `int`"}


MALFORMED = {
    "text": b"hello",
    "cut": b'{"email": "a@b"',
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": json.dumps(VALID).encode("utf-16"),
    "latin-1": b'{"email": "a@b", "name": "\xe4"}',
    "surrogate": b'{"email": "a@b", "name": "\\ud800"}',
    "nan": b'{"email": "a@b", "name": "A", "weight": NaN}',
    "twice": b"{}{}",
    "comma": b'{"email": "a@b",}',
    "raw nul": b'{"email": "a@b", "name": "\x00"}',
    "only nul": b"\x00",
    "quotes": b"{'email': 1}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_json_is_only_called_so(body: bytes) -> None:
    assert refused(body) == (400, "Invalid JSON", {})


@pytest.mark.parametrize(
    ("member", "field"),
    [('"weight": 1e999', "weight"), (f'"size": {"9" * 5_000}', "size"), (f'"weight": {"9" * 5_000}', "weight")],
)
def test_numbers_without_end_are_no_numbers(member: str, field: str) -> None:
    assert list(refused(f'{{"email": "a@b", "name": "A", {member}}}')[2]) == [field]


@pytest.mark.parametrize("opening", ['{"email":"a@b","name":"A","anything":', "", '{"x":'])
def test_what_is_nested_too_deeply_is_refused(opening: str) -> None:
    for bracket in ("[", '{"a":'):
        assert refused(opening + bracket * 100_000)[0] == 400
    assert refused(f'{{"email":"a@b","name":"A","anything":{"[" * 100_000}{"]" * 100_000}}}')[0] == 400


@pytest.mark.parametrize("text", [r"\u0000", r"a\u0000", r"\\\u0000", r"\n\u0000"])
@pytest.mark.parametrize("place", ['"%s"', '["%s"]', '{"%s": 1}', '[{"a": [{"b": "%s"}]}]'])
def test_nul_is_refused_wherever_it_is(text: str, place: str) -> None:
    body = f'{{"email": "a@b", "name": "A", "anything": {place % text}}}'
    assert refused(body) == (400, "Invalid request", {"body": NUL})


@pytest.mark.parametrize("text", [r"\\u0000", r"\\\\u0000", "u0000", r"\u0001"])
def test_what_only_looks_like_nul_is_taken_and_of_two_members_of_one_name_the_last(text: str) -> None:
    body = f'{{"email": "a@b", "name": "A", "name": "{text}"}}'.encode()
    assert of_body(Order).of_body("application/json", body)["new"].name == json.loads(f'"{text}"')


@pytest.mark.parametrize(
    "body", [b"[" + b"{}," * 1_300_000 + b"{}]", b"[" + b'"\\u0000",' * 400_000 + b"1]", b"\\" * 4_000_000]
)
def test_a_large_body_that_is_refused_costs_no_more_than_itself(body: bytes) -> None:
    arguments = of_body(Part | Annotated[list[Part], Meta(max_length=10)])
    tracemalloc.start()
    with pytest.raises(Refusal):
        arguments.of_body("application/json", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_function_without_a_body_ignores_one() -> None:
    arguments = of_query(str, "")
    assert (arguments.takes_body, arguments.of_body("text/plain", b"\xff")) == (False, {})
