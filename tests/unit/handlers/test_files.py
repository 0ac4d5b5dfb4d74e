"""`/files`, through the gateway onto a real folder: uploads, what is told of them, and keys that lead nowhere."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import msgspec
import pytest

from handlers.filekeys import FILE_BYTES_MAX, RULE
from handlers.files import BUCKET, get_file, put_file
from handlers.services import Services
from streamproc import App, Http, S3Event, testing
from streamproc.errors import StoreError
from streamproc.stream.options import StreamOptions
from tests.unit.http.rig import Rig

DATA = b"\xff\xd8 any bytes \0"
PUT = Http("PUT", "/files/{key:path}", put_file, scope="files:write", body_bytes_max=FILE_BYTES_MAX)
GET = Http("GET", "/files/{key:path}", get_file, scope="files:read")
KEYS = {
    "cat.jpg": "cat.jpg",
    "2026/01/a%20b+c.jpg": "2026/01/a b+c.jpg",
    "%E2%98%83/%252e%252e": "☃/%2e%2e",
    "...": "...",
    "%23/%3F": "#/?",
    "uploads/a": "uploads/a",
    "a%2Fb": "a/b",
    "/".join("x" * 508): "/".join("x" * 508),
}


@pytest.fixture
def made(tmp_path: Path, services: Services) -> Rig:
    return Rig(tmp_path, PUT, GET, services=services, stream=StreamOptions(format="json"))


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[httpx2.AsyncClient]:
    async with made.client("files:write", "files:read") as client:
        yield client


async def stored(services: Services, name: str) -> bytes | None:
    return await services.objects.get(name, bytes_max=FILE_BYTES_MAX)


def files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def events(made: Rig) -> list[S3Event]:
    return [msgspec.json.decode(record.value or b"", type=S3Event) for record in made.producer.records()]


@pytest.mark.parametrize(("written", "key"), KEYS.items())
async def test_an_upload_is_stored_and_told(
    client: httpx2.AsyncClient, made: Rig, services: Services, written: str, key: str
) -> None:
    answer = await client.put(f"/files/{written}", content=DATA, headers={"content-type": "text/html"})
    assert (answer.status_code, answer.json()) == (201, {"key": key, "size": len(DATA)})
    assert await stored(services, f"uploads/{key}") == DATA
    [record], [event] = made.producer.records(), events(made)
    assert record.key == f"uploads/{key}".encode()
    [found] = event.records
    assert (found.key, found.is_created, found.s3.bucket.name) == (f"uploads/{key}", True, BUCKET)
    assert (found.s3.object.size, found.event_time.timestamp()) == (len(DATA), pytest.approx(made.now, abs=1))
    location = answer.headers["location"]
    await services.objects.put(f"resized/{key}", b"small", content_type="image/jpeg")
    assert (await client.get(location)).content == b"small"


async def test_a_picture_is_not_found_before_it_is_made(client: httpx2.AsyncClient, services: Services) -> None:
    await client.put("/files/a/b.png", content=DATA)
    answer = await client.get("/files/a/b.png")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
    await services.objects.put("resized/a/b.png", b"\xff" * 5_000, content_type="text/html")
    for answer in [await client.get("/files/a/b.png", headers={"accept-encoding": "gzip"}) for _ in range(2)]:
        assert (answer.status_code, answer.content) == (200, b"\xff" * 5_000)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in answer.headers
    head = await client.head("/files/a/b.png")
    assert (head.status_code, head.headers["content-length"]) == (200, "5000")


HOSTILE = ["%2e%2e", "%2e%2e/%2e%2e/etc/passwd", "a/%2e%2e/b", "%2e", "%2Fetc/passwd", "%2F", "a%2F%2Fb", "a/", "a//b",
           "%5c", "a%5C..%5Cb", "%0a", "a%0D%0Ab", "%7f", "%C2%85", "%09", "x" * 1_017, "%C3%A9" * 509]  # fmt: skip


@pytest.mark.parametrize("written", HOSTILE)
async def test_a_key_that_could_lead_elsewhere_is_400_by_field(
    client: httpx2.AsyncClient, made: Rig, tmp_path: Path, written: str
) -> None:
    for answer in (await client.put(f"/files/{written}", content=DATA), await client.get(f"/files/{written}")):
        assert (answer.status_code, answer.json()) == (400, {"error": "Invalid request", "fields": {"key": RULE}})
    assert made.producer.records() == []
    assert files(tmp_path / "objects") == []


async def test_nul_is_refused_and_no_key_is_no_file(client: httpx2.AsyncClient, made: Rig) -> None:
    for method in ("PUT", "GET"):
        answer = await client.request(method, "/files/a%00.jpg", content=DATA)
        assert (answer.status_code, answer.json()["fields"]) == (400, {"key": "must not hold the character NUL"})
        for path in ("/files/", "/files"):
            assert (await client.request(method, path, content=DATA)).status_code == 404
    assert made.producer.records() == []


async def test_what_is_decoded_twice_elsewhere_is_a_name_here(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert (await client.put("/files/%252e%252e/%252e%252e/x", content=DATA)).status_code == 201
    found = [one.relative_to(tmp_path).parts[0] for one in files(tmp_path) if one.read_bytes() == DATA]
    assert found == ["objects"]


async def test_empty_and_too_large_files_are_refused(client: httpx2.AsyncClient, made: Rig) -> None:
    answer = await client.put("/files/a", content=b"")
    told = {"error": "Invalid request", "fields": {"body": "must be a file that is not empty"}}
    assert (answer.status_code, answer.json()) == (400, told)
    answer = await client.put("/files/a", content=bytes(FILE_BYTES_MAX + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "The body is larger than 33554432 bytes"})
    assert made.producer.records() == []
    assert (await client.put("/files/a", content=bytes(FILE_BYTES_MAX))).json()["size"] == FILE_BYTES_MAX


async def test_a_new_upload_takes_the_place_of_the_old(
    client: httpx2.AsyncClient, made: Rig, services: Services
) -> None:
    for data in (b"old", b"new"):
        assert (await client.put("/files/a", content=data)).status_code == 201
    assert await stored(services, "uploads/a") == b"new"
    assert [event.records[0].key for event in events(made)] == ["uploads/a"] * 2


async def test_a_broker_that_is_down_is_503_and_a_repeat_tells_it(client: httpx2.AsyncClient, made: Rig) -> None:
    made.producer.down = True
    assert (await client.put("/files/a", content=DATA)).status_code == 503
    made.producer.down = False
    assert (await client.put("/files/a", content=DATA)).status_code == 201
    assert len(events(made)) == 1


@dataclass(frozen=True)
class Away:
    """An object store that does not answer."""

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        raise StoreError("no answer")

    async def get(self, key: str, *, bytes_max: int) -> bytes | None:
        raise StoreError("no answer")

    async def delete(self, key: str) -> None:
        raise StoreError("no answer")


async def test_a_store_that_is_away_is_503_and_nothing_is_told(services: Services) -> None:
    app, away = App(functions=[PUT, GET]), replace(services, objects=Away())
    for line in ("PUT /files/a", "GET /files/a"):
        answer = await testing.request(app, line, DATA, services=away)
        assert (answer.status, answer.emitted) == (503, [])


@pytest.mark.parametrize(("method", "scope"), [("PUT", "files:read"), ("GET", "files:write")])
async def test_each_asks_for_its_scope(made: Rig, method: str, scope: str) -> None:
    async with made.client(scope) as client:
        assert (await client.request(method, "/files/a", content=DATA)).status_code == 403


async def test_a_key_that_the_store_has_no_place_for_is_a_conflict(client: httpx2.AsyncClient) -> None:
    assert (await client.put("/files/cat.jpg", content=DATA)).status_code == 201
    answer = await client.put("/files/cat.jpg/more", content=DATA)
    assert (answer.status_code, answer.json()["error"][:31]) == (409, "The store has no place for it: ")
    assert (await client.get("/files/cat.jpg/more")).status_code == 404
