"""The description of the functions: what it says of types, and that every name in it leads somewhere."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from handlers.app import app as shop
from streamproc import (
    Accepted,
    Answer,
    App,
    Body,
    ConfigError,
    Created,
    Event,
    Http,
    HttpContext,
    NoContent,
    Problem,
    Stream,
)
from streamproc.http.openapi import PROBLEM, document

REF = "#/components/schemas/"


class Colour(Enum):
    RED = "red"


class New(Body):
    first_name: Annotated[str, Meta(max_length=9, description="a name")]
    size: int = 3


class View(Answer):
    id: str
    made_at: datetime | None


async def create(new: New, ctx: HttpContext) -> Created[View] | Problem:
    """Makes one.

    And more.
    """
    raise NotImplementedError


async def find(
    id: Annotated[int, Meta(ge=1)],
    ctx: HttpContext,
    colour: Colour = Colour.RED,
    limit: Annotated[int, Meta(le=9, extra_json_schema={"example": [1]})] = 5,
    after: datetime | None = None,
    way: Literal["up", "down"] = "up",
) -> View: ...


async def since(key: str, from_: datetime, ctx: HttpContext) -> View: ...
async def delete(ctx: HttpContext) -> NoContent | None: ...
async def accept(many: New | list[New], ctx: HttpContext) -> Accepted[list[View]]: ...


async def handle(event: Event, ctx: Any) -> None: ...


def described(*functions: Http | Stream) -> dict[str, Any]:
    return document(App(functions=functions), title="things", version="7")


def operation(*of: Any, **more: Any) -> dict[str, Any]:
    [path] = described(Http(*of, **more))["paths"].values()
    [found] = path.values()
    assert isinstance(found, dict)
    return found


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (one for name, one in value.items() if name == "$ref")
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_whole_is_a_document_of_its_functions() -> None:
    made = described(
        Http("POST", "/things", create),
        Http("GET", "/things/{id}", find),
        Http("DELETE", "/things", delete),
        Stream(Event, handle),
    )
    assert (made["openapi"], made["info"]) == ("3.1.0", {"title": "things", "version": "7"})
    methods = {path: list(operations) for path, operations in made["paths"].items()}
    assert methods == {"/things": ["post", "delete"], "/things/{id}": ["get"]}
    assert made["components"]["schemas"]["Problem"] == PROBLEM
    assert made["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_bodies_and_answers_are_named_schemas_in_camel_case() -> None:
    made = described(Http("POST", "/things", create))
    post = made["paths"]["/things"]["post"]
    assert (post["operationId"], post["summary"]) == ("create", "Makes one.")
    assert post["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"{REF}New"}}},
    }
    new = made["components"]["schemas"]["New"]
    assert new["properties"]["firstName"] == {"type": "string", "maxLength": 9, "description": "a name"}
    assert (new["required"], new["additionalProperties"]) == (["firstName"], False)
    assert post["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": f"{REF}View"}
    assert "Location" in post["responses"]["201"]["headers"]
    assert made["components"]["schemas"]["View"]["required"] == ["id", "madeAt"]


def test_parameters_have_their_place_type_and_default() -> None:
    found = {one["name"]: one for one in operation("GET", "/{id}", find)["parameters"]}
    assert {name: (one["in"], one["required"]) for name, one in found.items()} == {
        "id": ("path", True),
        "colour": ("query", False),
        "limit": ("query", False),
        "after": ("query", False),
        "way": ("query", False),
    }
    assert found["id"]["schema"] == {"type": "integer", "minimum": 1}
    assert found["limit"]["schema"] == {"type": "integer", "maximum": 9, "example": [1], "default": 5}
    assert found["after"]["schema"]["default"] is None
    assert found["way"]["schema"] == {"enum": ["down", "up"], "default": "up"}
    assert found["colour"]["schema"]["default"] == "red"


def test_the_rest_of_a_path_and_keywords_are_named_as_callers_write_them() -> None:
    made = described(Http("GET", "/things/{key:path}", since), Http("DELETE", "/things/{key:path}", since, name="del"))
    assert {path: list(operations) for path, operations in made["paths"].items()} == {
        "/things/{key}": ["get", "delete"]
    }
    found = {one["name"]: (one["in"], one["required"]) for one in made["paths"]["/things/{key}"]["get"]["parameters"]}
    assert found == {"key": ("path", True), "from": ("query", True)}


@pytest.mark.parametrize(
    ("function", "status", "has_body"),
    [(create, "201", True), (find, "200", True), (delete, "204", False), (accept, "202", True)],
)
def test_the_status_follows_what_is_returned(function: Callable[..., Any], status: str, has_body: bool) -> None:
    responses = operation("POST", "/{id}" if function is find else "/", function)["responses"]
    assert [one for one in responses if one.startswith("2")] == [status]
    assert ("content" in responses[status]) == has_body
    assert responses["default"]["content"]["application/json"]["schema"] == {"$ref": f"{REF}Problem"}


@pytest.mark.parametrize(
    ("of", "more", "errors"),
    [
        (("DELETE", "/", delete), {"public": True}, set()),
        (("DELETE", "/", delete), {}, {"401", "403"}),
        (("GET", "/{id}", find), {"public": True}, {"400", "404"}),
        (("POST", "/", create), {}, {"400", "401", "403", "413", "415"}),
        (("POST", "/", create), {"rate_per_s": 1, "public": True}, {"400", "413", "415", "429"}),
    ],
)
def test_errors_are_those_that_can_happen(of: Any, more: dict[str, Any], errors: set[str]) -> None:
    assert {one for one in operation(*of, **more)["responses"] if one.startswith("4")} == errors


@pytest.mark.parametrize(
    ("more", "security"),
    [({}, [{"bearer": []}]), ({"scope": "a:b"}, [{"bearer": ["a:b"]}]), ({"public": True}, [])],
)
def test_security_is_the_scope(more: dict[str, Any], security: list[Any]) -> None:
    assert operation("DELETE", "/", delete, **more)["security"] == security


def test_every_reference_of_the_application_leads_somewhere() -> None:
    made = document(shop, title="shop", version="1")
    found = set(references(made))
    assert {f"{REF}{name}" for name in ("NewUser", "UserPage", "OrderView", "NewReading", "Problem")} <= found
    assert {one.removeprefix(REF) for one in found} <= made["components"]["schemas"].keys()
    for path, operations in made["paths"].items():
        for one in operations.values():
            names = {parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"}
            assert names == set(re.findall(r"{(\w+)}", path))


class Opaque:
    """Nothing msgspec knows."""


@pytest.mark.parametrize("place", ["new", "return"])
def test_a_type_that_cannot_be_described_is_the_declaration_s_error(place: str) -> None:
    async def function(ctx: HttpContext, new: Any = None) -> Any: ...

    function.__annotations__[place] = Opaque
    with pytest.raises(ConfigError, match=r"^of an HTTP function, type <class '.*Opaque'> is not supported$"):
        described(Http("POST", "/", function))
