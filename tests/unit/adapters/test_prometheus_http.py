"""Metrics of requests, outbox and schedules: what a scrape says, and that no request can add to what it lists."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from streamproc import Http, HttpContext, Problem
from streamproc.adapters.prometheus_http import HttpCollector, OutboxCollector, ScheduleCollector
from streamproc.model import FunctionSnapshot, HttpSnapshot, OutboxSnapshot, ScheduleSnapshot
from tests.unit.http.rig import JSON_DOCUMENT, Rig

HTTP = HttpSnapshot(
    functions=[
        FunctionSnapshot("find", 0, 3, 0, [0, 4, 0, 1, *[0] * 28], 1.5),
        FunctionSnapshot("make", 0, 0, 0, [0] * 32, 0.0),
    ],
    answers={"find": {200: 5, 404: 2}, "make": {}, "other": {404: 7}},
)
OUTBOX = OutboxSnapshot(published=9, refused=2, waiting=4, active=True)


def samples(*collectors: HttpCollector | OutboxCollector | ScheduleCollector) -> dict[str, float]:
    """Sample -> value, written as in the exposition."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)  # type: ignore[arg-type, unused-ignore]
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_are_counted_by_function_and_status() -> None:
    found = samples(HttpCollector(lambda: HTTP))
    assert {name: value for name, value in found.items() if "requests_total" in name} == {
        'streamproc_http_requests_total{function="find",status="200"}': 5,
        'streamproc_http_requests_total{function="find",status="404"}': 2,
        'streamproc_http_requests_total{function="other",status="404"}': 7,
    }
    assert found['streamproc_http_requests_in_flight{function="find"}'] == 3
    assert found['streamproc_http_requests_in_flight{function="make"}'] == 0


def test_durations_are_a_histogram_in_seconds_per_function() -> None:
    found = samples(HttpCollector(lambda: HTTP))
    name = "streamproc_http_request_duration_seconds"
    assert found[f'{name}_bucket{{function="find",le="6.4e-05"}}'] == 0
    assert found[f'{name}_bucket{{function="find",le="0.000128"}}'] == 4
    assert found[f'{name}_bucket{{function="find",le="+Inf"}}'] == 5
    assert (found[f'{name}_count{{function="find"}}'], found[f'{name}_sum{{function="find"}}']) == (5, 1.5)
    assert found[f'{name}_count{{function="make"}}'] == 0


def test_the_outbox_is_told_by_the_process_that_publishes() -> None:
    assert samples(OutboxCollector(lambda: OUTBOX)) == {
        "streamproc_outbox_published_total": 9,
        "streamproc_outbox_waiting_events": 4,
        "streamproc_outbox_refused_events": 2,
        "streamproc_outbox_relay_active": 1,
    }
    idle = samples(OutboxCollector(lambda: OutboxSnapshot(0, 0, 0, False)))
    assert set(idle.values()) == {0}


def test_schedules_tell_what_was_claimed_and_when_they_are_due_next() -> None:
    snapshot = ScheduleSnapshot({("daily", "due"): 3, ("daily", "skipped"): 1}, {"daily": 1_800_000_000.0, "b": 1.5})
    assert samples(ScheduleCollector(lambda: snapshot)) == {
        'streamproc_schedule_firings_total{schedule="daily",state="due"}': 3,
        'streamproc_schedule_firings_total{schedule="daily",state="skipped"}': 1,
        'streamproc_schedule_next_timestamp_seconds{schedule="daily"}': 1_800_000_000,
        'streamproc_schedule_next_timestamp_seconds{schedule="b"}': 1.5,
    }


async def test_no_request_adds_a_series_but_by_the_status_of_its_answer(tmp_path: Path) -> None:
    async def find(id: str, ctx: HttpContext, n: int = 0) -> str | Problem:
        return Problem(404, "No") if id == "none" else id

    made = Rig(tmp_path, Http("GET", "/things/{id}", find, public=True), documents={"/openapi.json": JSON_DOCUMENT})
    collector = HttpCollector(made.gateway.snapshot)
    async with made.client() as client:
        for path in ("/things/a", "/things/none", "/things/a?n=x", "/nope", "/openapi.json"):
            await client.get(path)
        await client.request("BREW", "/things/a")
        before = samples(collector)
        for n in range(300):
            await client.request(f"M{n}", f"/things/{n}?n={n}x&{n}=%0d%0a", headers={f"x-{n}": "y"})
            await client.get(f"/{n}/%0d%0a{n}")
            await client.get(f"/things/{n}%00?n={n}")
            await client.get(f"/things/{n}", headers={"x-request-id": str(n), "user-agent": f"{n}"})
        after = samples(collector)
    assert before.keys() == after.keys()
    assert after['streamproc_http_requests_total{function="find",status="200"}'] == 301
    assert sum(value for name, value in after.items() if "requests_total" in name) == 1_206
