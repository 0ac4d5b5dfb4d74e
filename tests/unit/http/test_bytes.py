"""Bodies and answers that are no JSON: bytes as they came, and bytes with a media type."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from streamproc import App, Body, ConfigError, Content, Created, HandlerError, Http, HttpContext, Problem, testing
from streamproc.http.openapi import BINARY, document
from streamproc.http.render import GZIP_BYTES_MIN, compressed, render
from streamproc.http.signature import signature
from tests.unit.http.rig import Rig

EVERY_BYTE = bytes(range(256)) * 8
Some = Annotated[bytes, Meta(min_length=1, max_length=4, description="1 to 4 bytes")]


class New(Body):
    name: str


async def mirror(data: bytes, ctx: HttpContext, kind: str = "application/octet-stream") -> Content | Problem:
    return Content(data, kind)


async def measure(data: Some, ctx: HttpContext) -> int:
    return len(data)


def rig(folder: Path, **options: Any) -> Rig:
    return Rig(folder, Http("PUT", "/", mirror, public=True, **options), Http("POST", "/", measure, public=True))


@pytest.mark.parametrize("data", [b"", b"\0", b"{", b'{"a": 1}', b"\xff\xfe", EVERY_BYTE])
@pytest.mark.parametrize("kind", [None, "application/json", "image/png", "text/plain; charset=utf-16", "nonsense", ""])
async def test_bytes_are_taken_and_given_as_they_are(tmp_path: Path, data: bytes, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    async with rig(tmp_path).client() as client:
        answer = await client.put("/", content=data, headers=headers)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_they_come_in_parts_and_no_more_than_the_function_allows(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 25

    async with rig(tmp_path, body_bytes_max=100).client() as client:
        assert (await client.put("/", content=parts())).content == b"x" * 100
        answer = await client.put("/", content=b"x" * 101)
    assert (answer.status_code, answer.json()) == (413, {"error": "The body is larger than 100 bytes"})


@pytest.mark.parametrize(("data", "status"), [(b"", 400), (b"x", 200), (b"xxxx", 200), (b"xxxxx", 400)])
async def test_an_annotation_may_limit_their_length(tmp_path: Path, data: bytes, status: int) -> None:
    async with rig(tmp_path).client() as client:
        answer = await client.post("/", content=data)
    assert answer.status_code == status
    if status == 400:
        assert answer.json() == {"error": "Invalid request", "fields": {"body": "must be 1 to 4 bytes"}}


def test_bytes_are_the_body_and_only_one_parameter_can_be() -> None:
    assert signature(Http("PUT", "/", mirror)).takes_bytes
    assert signature(Http("PUT", "/", measure)).takes_bytes

    async def both(data: bytes, new: New, ctx: HttpContext) -> None: ...

    async def json(new: New, ctx: HttpContext) -> None: ...

    assert not signature(Http("PUT", "/", json)).takes_bytes
    with pytest.raises(ConfigError, match="both: data and new cannot both be the body"):
        signature(Http("PUT", "/", both))


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "text/html; charset=utf-8", "application/vnd.a+json;q=1", 'x/y ; a="b c"', "a!#/b$&"]
)
def test_a_media_type_is_sent_as_it_is(kind: str) -> None:
    assert render(Content(b"x", kind)).headers == {"content-type": kind, "x-content-type-options": "nosniff"}


@pytest.mark.parametrize(
    "kind",
    ["", "image", "image/", "/jpeg", "image/jpeg\r\nset-cookie: a=b", "image/jpeg\n", "image/jp eg", "image/jpég",
     "image/jpeg; a=\0", "image/jpeg; a=\x7f", "image/jpeg, text/html", "a/b/c", " image/jpeg"],
)  # fmt: skip
async def test_what_is_no_media_type_is_the_error_of_its_author(tmp_path: Path, kind: str) -> None:
    with pytest.raises(HandlerError, match="of a media type that is none"):
        render(Content(b"x", kind))
    async with rig(tmp_path).client() as client:
        answer = await client.put("/", content=b"x", params={"kind": kind})
    if "\0" not in kind:
        assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})


@pytest.mark.parametrize("data", ["text", None, bytearray(b"x"), memoryview(b"x"), [1]])
def test_content_is_bytes(data: Any) -> None:
    with pytest.raises(HandlerError, match=r"it returned Content of \w+, which is not bytes"):
        render(Content(data, "image/jpeg"))


@pytest.mark.parametrize(
    ("kind", "is_compressed"),
    [("image/jpeg", False), ("IMAGE/png", False), ("image/svg+xml", False), ("text/csv", True), ("x-image/jpeg", True)],
)
def test_pictures_are_not_compressed_again(kind: str, is_compressed: bool) -> None:
    plain = render(Content(b"x" * GZIP_BYTES_MIN, kind))
    answer = compressed(plain, "gzip")
    assert (answer is plain) != is_compressed
    assert (gzip.decompress(answer.body) if is_compressed else answer.body) == plain.body
    assert answer.headers["x-content-type-options"] == "nosniff"


def described(function: Any) -> dict[str, Any]:
    made = document(App(functions=[Http("PUT", "/", function)]), title="things", version="1")
    operation = made["paths"]["/"]["put"]
    assert isinstance(operation, dict)
    return operation


def test_bodies_of_bytes_are_described_as_such() -> None:
    assert described(mirror)["requestBody"] == {
        "required": False,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
    limited = described(measure)["requestBody"]
    assert limited["required"]
    [content] = limited["content"].values()
    assert content["schema"] == {**BINARY, "minLength": 1, "maxLength": 4}
    assert "415" not in described(mirror)["responses"]
    assert "413" in described(mirror)["responses"]


def test_answers_of_bytes_are_described_as_such() -> None:
    responses = described(mirror)["responses"]
    assert responses["200"]["content"] == {"*/*": {"schema": BINARY}}

    async def several(ctx: HttpContext) -> Created[New] | Content | Problem: ...

    assert {one for one in described(several)["responses"] if one.startswith("2")} == {"200", "201"}


async def test_a_test_sends_bytes_as_they_are() -> None:
    app = App(functions=[Http("PUT", "/", mirror)])
    for data in (b"", EVERY_BYTE):
        answer = await testing.request(app, "PUT /?kind=image/jpeg", data)
        assert (answer.body, answer.headers["content-type"]) == (data, "image/jpeg")
