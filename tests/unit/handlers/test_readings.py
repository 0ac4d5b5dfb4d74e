"""`/readings`, through the gateway onto a broker: one reading or many, and what no sensor can have measured."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from handlers.app import app
from handlers.readings import READINGS_MAX
from handlers.sensor_reading import SensorReading, store_readings
from handlers.services import Services
from streamproc import App, Stream, testing
from streamproc.model import OutRecord
from streamproc.stream.options import StreamOptions
from tests.unit.handlers.conftest import Query
from tests.unit.http.rig import Rig

ONE = {"sensorId": "s-1", "timestamp": "2026-01-02T03:04:05Z", "temperature": 21.5, "humidity": 40}

LATER = ONE | {"timestamp": "2026-01-02T03:04:06Z"}


@pytest.fixture
def made(tmp_path: Path, services: Services) -> Rig:
    return Rig(tmp_path, *app.http_functions, services=services, stream=StreamOptions(format="cloudevents"))


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[httpx2.AsyncClient]:
    async with made.client("readings:write") as client:
        yield client


def events(made: Rig) -> list[SensorReading]:
    return [msgspec.json.decode(record.value or b"", type=SensorReading) for record in made.producer.records()]


def ids(made: Rig) -> list[str]:
    return [(dict(record.headers)["ce_id"] or b"").decode() for record in made.producer.records()]


async def test_one_reading_is_with_the_broker_when_it_is_accepted(client: httpx2.AsyncClient, made: Rig) -> None:
    answer = await client.post("/readings", json=ONE)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    [reading] = events(made)
    assert (reading.sensor_id, reading.temperature, reading.humidity) == ("s-1", 21.5, 40.0)
    assert [record.key for record in made.producer.records()] == [b"s-1"]


async def test_many_are_accepted_together_in_their_order(client: httpx2.AsyncClient, made: Rig) -> None:
    many = [ONE | {"sensorId": f"s-{n % 3}", "temperature": n} for n in range(100)]
    assert (await client.post("/readings", json=many)).json() == {"accepted": 100}
    assert [reading.temperature for reading in events(made)] == list(range(100))
    assert len(set(ids(made))) == 100


async def test_a_repeat_with_its_key_has_the_same_ids_so_each_is_stored_once(
    client: httpx2.AsyncClient, made: Rig, services: Services, query: Query
) -> None:
    for _ in range(2):
        await client.post("/readings", json=[ONE, LATER], headers={"idempotency-key": "k"})
    first, second = ids(made)[:2], ids(made)[2:]
    assert first == second
    assert len(set(first)) == 2
    stream = App(functions=[Stream(SensorReading, store_readings, batch_size=10)])
    records = [OutRecord("events", record.value, record.key, record.headers) for record in made.producer.records()]
    result = await testing.run(stream, records, services=services, options=StreamOptions(format="cloudevents"))
    assert result.count("ok") == 4
    assert query("SELECT count(*) FROM readings") == [(2,)]


async def test_a_broker_that_is_down_accepts_none(client: httpx2.AsyncClient, made: Rig) -> None:
    made.producer.down = True
    answer = await client.post("/readings", json=[ONE])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert events(made) == []


async def test_the_most_that_is_taken_and_one_more(client: httpx2.AsyncClient, made: Rig) -> None:
    assert (await client.post("/readings", json=[ONE] * READINGS_MAX)).json() == {"accepted": READINGS_MAX}
    answer = await client.post("/readings", json=[ONE] * (READINGS_MAX + 1))
    assert (answer.status_code, answer.json()["fields"]) == (400, {"body": "expected `array` of length <= 10000"})
    assert len(made.producer.records()) == READINGS_MAX


@pytest.mark.parametrize("count", [60_000, 1_000_000])
async def test_a_million_are_too_large_however_they_come(client: httpx2.AsyncClient, made: Rig, count: int) -> None:
    body = b"[" + b",".join([json.dumps(ONE).encode()] * 1_000) * (count // 1_000) + b"]"
    headers = {"content-type": "application/json"}

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    for content in (body, parts()):
        answer = await client.post("/readings", content=content, headers=headers)
        assert (answer.status_code, answer.json()) == (413, {"error": "The body is larger than 4194304 bytes"})
    assert made.producer.records() == []


@pytest.mark.parametrize(
    "timestamp",
    ["2000-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2026-01-02T03:04:05+14:00", "2026-01-02T03:04:05-00:00"],
)
async def test_times_of_this_century_are_taken(client: httpx2.AsyncClient, timestamp: str) -> None:
    assert (await client.post("/readings", json=ONE | {"timestamp": timestamp})).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "1999-12-31T23:59:59Z"},
        {"timestamp": "2100-01-01T00:00:00Z"},
        {"timestamp": "0001-01-01T00:00:00Z"},
        {"timestamp": "9999-12-31T23:59:59Z"},
        {"timestamp": "2026-01-02T03:04:05"},
        {"timestamp": "2026-13-02T03:04:05Z"},
        {"timestamp": "2026-02-30T03:04:05Z"},
        {"timestamp": "now"},
        {"timestamp": 1_700_000_000},
        {"timestamp": None},
        {"sensorId": ""},
        {"sensorId": "x" * 201},
        {"sensorId": None},
        {"sensorId": 5},
        {"temperature": "21"},
        {"temperature": None},
        {"temperature": True},
        {"humidity": [1]},
        {"unknown": 1},
    ],
)
@pytest.mark.parametrize("is_list", [False, True])
async def test_what_is_no_reading_refuses_all(
    client: httpx2.AsyncClient, made: Rig, change: dict[str, Any], is_list: bool
) -> None:
    answer = await client.post("/readings", json=[ONE, ONE | change, ONE] if is_list else ONE | change)
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid request")
    assert len(answer.json()["fields"]) == 1
    assert events(made) == []


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", "5", '"x"', "[[]]", "[null]", "[{}]"])
async def test_bodies_of_other_kinds_are_400(client: httpx2.AsyncClient, body: str) -> None:
    answer = await client.post("/readings", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "Invalid request")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5_000])
async def test_numbers_that_are_none_are_400(client: httpx2.AsyncClient, number: str) -> None:
    body = json.dumps(ONE).replace("21.5", number)
    answer = await client.post("/readings", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


async def test_it_asks_for_its_scope(made: Rig) -> None:
    async with made.client("readings:read") as client:
        assert (await client.post("/readings", json=ONE)).status_code == 403


async def stored(services: Services, made: Rig, client: httpx2.AsyncClient, *readings: Any) -> None:
    """Readings that came over the API and through the stream."""
    await client.post("/readings", json=readings)
    stream = App(functions=[Stream(SensorReading, store_readings, batch_size=10)])
    records = [OutRecord("events", record.value, record.key, record.headers) for record in made.producer.records()]
    await testing.run(stream, records, services=services, options=StreamOptions(format="cloudevents"))


@pytest.fixture
async def reader(made: Rig, services: Services, client: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller who may read; sensor s-1 measured each minute of ten, s-2 once."""
    times = [f"2026-01-02T03:{minute:02}:00Z" for minute in range(10)]
    await stored(services, made, client, *(ONE | {"timestamp": time} for time in times), ONE | {"sensorId": "s-2"})
    async with made.client("readings:read") as client:
        yield client


async def times(reader: httpx2.AsyncClient, **query: Any) -> tuple[list[str], str | None]:
    page = (await reader.get("/readings", params=query)).json()
    return [one["timestamp"] for one in page["readings"]], page["next"]


async def test_what_a_sensor_measured_is_told_in_order(reader: httpx2.AsyncClient) -> None:
    page = (await reader.get("/readings", params={"sensor": "s-1", "limit": 1})).json()
    [first] = page["readings"]
    assert (page["sensorId"], page["next"]) == ("s-1", "2026-01-02T03:01:00Z")
    assert first == {
        "timestamp": "2026-01-02T03:00:00Z",
        "temperature": 21.5,
        "humidity": 40,
        "processedAt": first["processedAt"],
    }
    assert await times(reader, sensor="s-2") == (["2026-01-02T03:04:05Z"], None)
    assert await times(reader, sensor="s-3") == ([], None)


async def test_a_page_is_followed_by_the_next(reader: httpx2.AsyncClient) -> None:
    query: dict[str, Any] = {
        "sensor": "s-1",
        "limit": 4,
        "from": "2026-01-02T04:01:00+01:00",
        "to": "2026-01-02T03:09:00Z",
    }
    found = []
    while query["from"] is not None:
        page, query["from"] = await times(reader, **query)
        assert len(page) <= 4
        found += page
    assert found == [f"2026-01-02T03:0{minute}:00Z" for minute in range(1, 9)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "sensor"),
        ({"sensor": ""}, "sensor"),
        ({"sensor": "s" * 201}, "sensor"),
        ({"sensor": "s", "from": "yesterday"}, "from"),
        ({"sensor": "s", "to": "2026-01-02T03:04:05"}, "to"),
        ({"sensor": "s", "limit": "0"}, "limit"),
        ({"sensor": "s", "limit": "1001"}, "limit"),
    ],
)
async def test_what_is_no_question_is_refused_by_field(
    reader: httpx2.AsyncClient, query: dict[str, str], field: str
) -> None:
    answer = await reader.get("/readings", params=query)
    assert answer.status_code == 400
    assert field.lower() in answer.text.lower()
