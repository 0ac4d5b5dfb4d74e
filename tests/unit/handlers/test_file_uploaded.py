"""`s3.event`, through the pipeline onto a real folder: what is resized, what is left alone, and what is refused."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import quote_plus

import pytest
from PIL import Image

from handlers.file_uploaded import resize_picture
from handlers.filekeys import FILE_BYTES_MAX, RULE
from handlers.files import get_file, put_file
from handlers.pictures import resize
from handlers.services import Services
from handlers.stores.processed import Refused
from streamproc import App, Http, Reject, S3Event, Stream, testing
from streamproc.compute import ComputeOptions, open_compute
from streamproc.errors import StoreError
from streamproc.model import OutRecord
from streamproc.ports import ObjectStore
from streamproc.stream.options import StreamOptions
from streamproc.testing import DeadLetter

AT = datetime(2026, 1, 2, tzinfo=UTC)
JPEG = "image/jpeg"
APP = App(
    functions=[
        Http("PUT", "/files/{key:path}", put_file),
        Http("GET", "/files/{key:path}", get_file),
        Stream(S3Event, resize_picture, max_retry_attempts=3),
    ]
)


@dataclass(frozen=True)
class InThreads:
    """The real store, called from threads: virtual time stands still for them only. Fails `failures` times first."""

    store: ObjectStore
    failures: list[StoreError]
    log: list[tuple[str, str]]

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        self.log.append((key, content_type))
        await asyncio.to_thread(asyncio.run, self._put(key, data, content_type))

    async def _put(self, key: str, data: bytes, content_type: str) -> None:
        await self.store.put(key, data, content_type=content_type)

    async def get(self, key: str, *, bytes_max: int) -> bytes | None:
        if self.failures:
            raise self.failures.pop()
        self.log.append((key, ""))
        return await asyncio.to_thread(asyncio.run, self._get(key, bytes_max))

    async def _get(self, key: str, bytes_max: int) -> bytes | None:
        return await self.store.get(key, bytes_max=bytes_max)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(asyncio.run, self._delete(key))

    async def _delete(self, key: str) -> None:
        await self.store.delete(key)


@pytest.fixture
def store(services: Services) -> InThreads:
    return InThreads(services.objects, [], [])


@pytest.fixture
def around(services: Services, store: InThreads) -> Services:
    return replace(services, objects=store)


def picture() -> bytes:
    made = BytesIO()
    Image.new("RGB", (1_600, 1_000), (200, 30, 30)).save(made, "PNG")
    return made.getvalue()


def told(*keys: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """What a store tells of objects; their keys as they are on the wire."""
    time = "2026-01-02T00:00:00Z"
    return {
        "Records": [
            {"eventName": name, "eventTime": time, "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}
            for key in keys
        ]
    }


async def play(around: Services, *values: dict[str, Any]) -> testing.Result:
    """Plays what a store tells."""
    records = [OutRecord("events", json.dumps(value).encode(), b"k") for value in values]
    return await testing.run(APP, records, services=around, options=StreamOptions(format="s3"))


def letters(result: testing.Result) -> list[str]:
    return [letter.reason for letter in result.dead_letters]


async def upload(services: Services, key: str, data: bytes) -> None:
    await services.objects.put(f"uploads/{key}", data, content_type="text/plain")


async def resized(services: Services, key: str) -> bytes | None:
    return await services.objects.get(f"resized/{key}", bytes_max=FILE_BYTES_MAX)


@pytest.mark.parametrize("key", ["cat.png", "2026/a b+c.png", "☃/%2e%2e", "...", "uploads/a", "resized/a"])
async def test_an_upload_becomes_a_picture_for_web_pages(services: Services, around: Services, key: str) -> None:
    put = await testing.request(
        APP, f"PUT /files/{quote_plus(key, safe='/').replace('+', '%20')}", picture(), services=services
    )
    assert put.status == 201
    location = put.headers["location"]
    assert (await testing.request(APP, f"GET {location}", services=services)).status == 404
    result = await testing.run(APP, put.emitted, services=around)
    assert (result.count("ok"), result.dead_letters) == (1, [])
    got = await testing.request(APP, f"GET {location}", services=services)
    assert (got.status, got.headers["content-type"]) == (200, JPEG)
    with Image.open(BytesIO(got.body)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (800, 500))


async def test_it_makes_the_same_whoever_tells_of_the_upload_and_however_often(
    services: Services, around: Services, store: InThreads
) -> None:
    await upload(services, "a b.png", picture())
    made = []
    for value in (
        told("uploads/a+b.png"),
        told("uploads%2Fa%20b.png", name="s3:ObjectCreated:CompleteMultipartUpload"),
    ):
        assert (await play(around, value, value)).count("ok") == 2
        made.append(await resized(services, "a b.png"))
    assert made == [resize(picture())] * 2
    assert [one for one in store.log if one[1]] == [("resized/a b.png", JPEG)] * 4


async def test_an_object_told_of_twice_in_one_event_is_handled_once(around: Services, store: InThreads) -> None:
    assert letters(await play(around, told("uploads/a", "uploads%2fa", "uploads/a"))) == ["gone"]
    assert store.log == [("uploads/a", "")] * 2  # once more when its picture is settled


@pytest.mark.parametrize(
    "value",
    [
        told("resized/a.png"),
        told("resized/../uploads/a.png"),
        told(
            "a.png", "upload/a.png", "Uploads/a.png", "/uploads/a.png", "x/uploads/a.png", "./uploads/a.png", "uploads"
        ),
        told("uploads/a.png", name="ObjectRemoved:Delete"),
        told("uploads/a.png", name="s3:ObjectAccessed:Get"),
        told(),
        {"Event": "s3:TestEvent"},
    ],
)
async def test_what_is_no_new_upload_is_left_alone(around: Services, store: InThreads, value: dict[str, Any]) -> None:
    result = await play(around, value)
    assert (result.count("ok"), result.dead_letters) == (1, [])
    assert store.log == []


async def test_what_it_makes_does_not_come_back_to_it(services: Services, around: Services, store: InThreads) -> None:
    await upload(services, "a.png", picture())
    await play(around, told("uploads/a.png"))
    stored = [key for key, kind in store.log if kind]
    store.log.clear()
    await play(around, told(*stored))
    assert (stored, store.log) == (["resized/a.png"], [])


HOSTILE = ["uploads/..", "uploads/../../etc/passwd", "uploads/%2e%2e/a", "uploads/%2e%2e%2fresized%2fa", "uploads//a",
           "uploads/", "uploads/%00", "uploads/a%0d%0ab", "uploads/a\\..\\b", "uploads/./a", "uploads/a%5c",
           "uploads/" + "k" * 1_017, "uploads/" + "%C3%A9" * 509]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE)
async def test_a_key_that_could_lead_elsewhere_is_refused(around: Services, store: InThreads, key: str) -> None:
    result = await play(around, told(key))
    [letter] = result.dead_letters
    assert (letter.reason, RULE in letter.message, result.count("retried")) == ("key", True, 0)
    assert store.log == []


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg/>", b"\xff\xd8\xff" + bytes(100), picture()[:200]])
async def test_what_is_no_picture_is_refused_as_resize_says(services: Services, around: Services, data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        resize(data)
    await upload(services, "a", data)
    result = await play(around, told("uploads/a"))
    assert (letters(result), result.count("retried")) == ([caught.value.outcome.reason], 0)
    assert await resized(services, "a") is None


async def test_gone_and_too_large_objects_are_refused(services: Services, around: Services) -> None:
    await upload(services, "large", bytes(FILE_BYTES_MAX + 1))
    result = await play(around, told("uploads/gone"), told("uploads/large"))
    assert (letters(result), result.count("retried")) == (["gone", "too_large"], 0)


async def test_an_event_of_a_thousand_objects_is_handled_whole(around: Services, store: InThreads) -> None:
    result = await play(around, told(*(f"uploads/{number}" for number in range(1_000))))
    assert (letters(result), result.count("retried"), len(store.log)) == (["gone"], 0, 2_000)


async def test_all_good_ones_of_an_event_are_made_and_the_first_refusal_is_told(
    services: Services, around: Services
) -> None:
    for key in ("first", "last"):
        await upload(services, key, picture())
    await upload(services, "bad", b"no picture")
    value = told("uploads/first", "other/x", "uploads/gone", "uploads/..", "uploads/bad", "uploads/last")
    result = await play(around, value)
    assert result.dead_letters == [DeadLetter("gone", "events/0/0")]
    assert await resized(services, "first") == await resized(services, "last") == resize(picture())


@pytest.mark.parametrize(("failures", "reasons"), [(3, []), (4, ["RetryAttemptsExhausted"])])
async def test_a_store_that_is_away_is_tried_again(
    services: Services, around: Services, store: InThreads, failures: int, reasons: Sequence[str]
) -> None:
    await upload(services, "a", picture())
    store.failures.extend(StoreError("no answer") for _ in range(failures))
    result = await play(around, told("uploads/a"))
    assert (letters(result), result.count("retried")) == (reasons, 3)
    assert (await resized(services, "a") is None) == bool(reasons)


async def test_it_can_be_invoked_with_what_a_store_tells(services: Services) -> None:
    await upload(services, "a b.png", picture())
    value = json.dumps(told("uploads/a+b.png")).encode()
    assert await testing.invoke(APP, value, services=services) is None
    assert await resized(services, "a b.png") == resize(picture())


async def test_a_picture_that_takes_too_much_is_refused(services: Services) -> None:
    await upload(services, "a", picture())
    async with open_compute(ComputeOptions(runner="process", workers=1, timeout_s=0.01)) as compute:
        event = S3Event.created("b", "uploads/a", size=1, at=AT)
        outcome = await testing.invoke(APP, event, services=replace(services, compute=compute))
    assert isinstance(outcome, Reject)
    assert outcome.reason == "too_costly"
    assert await resized(services, "a") is None


async def test_a_process_resizes_as_a_thread_does_and_says_what_it_refuses(services: Services) -> None:
    await upload(services, "a", picture())
    await upload(services, "bad", b"no picture")
    async with open_compute(ComputeOptions(runner="process", workers=1)) as compute:
        apart = replace(services, compute=compute)
        outcomes = [
            await testing.invoke(APP, S3Event.created("b", f"uploads/{key}", size=1, at=AT), services=apart)
            for key in ("a", "bad")
        ]
    assert await resized(services, "a") == resize(picture())
    assert [type(outcome) for outcome in outcomes] == [type(None), Reject]
