"""What a function is given besides its parameters: time, log, ids, and events on their way to the broker."""

import asyncio
import base64
import json
import logging
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamproc import Event, Http, HttpContext, Problem
from streamproc.adapters.memory import Faults, StoredRecord
from streamproc.context import CallLimits, Clocks, Run
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.http.arguments import Refusal
from streamproc.http.auth import Caller
from streamproc.http.context import HttpContext as Context
from streamproc.model import OutRecord, RecordBatch, TopicPartition
from streamproc.stream.decode import Decoder
from streamproc.stream.options import Format, StreamOptions
from streamproc.stream.wrap import keeps_event_ids
from tests.unit.http.rig import TOPIC, Rig

NOW = 1_800_000_000.0
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Made(Event, tag="thing.made"):
    thing_id: str
    text: str = ""


def context(name: str = "make", subject: str | None = "u-1", key: str = "", **options: Any) -> Context[str]:
    clocks = Clocks(lambda: NOW, lambda: NOW)
    run = Run(name, "services", limits=CallLimits(30.0), stream=StreamOptions(**options), clocks=clocks)
    made = Context(run, None if subject is None else Caller(subject, frozenset(), {}), "r-1", PARENT)
    made.idempotency_key = key
    return made


def test_it_tells_who_and_when() -> None:
    ctx = context()
    assert (ctx.function, ctx.services, ctx.request_id, ctx.traceparent) == ("make", "services", "r-1", PARENT)
    assert ctx.now.timestamp() == NOW
    assert ctx.deadline - ctx.now == timedelta(seconds=30)
    assert ctx.now.tzinfo is not None
    assert (ctx.stored, ctx.emitted) == (False, [])


def test_its_log_names_the_function_and_the_request(caplog: pytest.LogCaptureFixture) -> None:
    context().log.warning("careful")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("streamproc.functions.make", logging.WARNING)
    assert {"function": "make", "request_id": "r-1"}.items() <= record.__dict__.items()


def test_an_id_depends_on_all_that_tells_requests_apart_and_on_nothing_else() -> None:
    again = context(key="k").new_id("p")
    assert context(key="k").new_id("p") == again
    others = [
        context(key="l").new_id("p"),
        context(key="k").new_id("q"),
        context(key="k").new_id(),
        context(key="k", subject="u-2").new_id("p"),
        context(key="k", subject=None).new_id("p"),
        context("other", key="k").new_id("p"),
        context(key="kp").new_id(),
        context(key="", subject="u-1").new_id("p"),
        context(key="").new_id("p"),
        context("make\0u-1", key="k", subject="x").new_id("p"),
    ]
    assert len({again, *others}) == 1 + len(others)
    assert all(str(uuid.UUID(one)) == one for one in (again, *others))


@pytest.mark.parametrize("form", ["kinesis", "base64", "json", "cloudevents", "auto"])
def test_an_event_is_a_record_of_its_topic_s_format_in_the_trace_of_the_request(form: Format) -> None:
    ctx = context(topics=["a", "b"], formats={"b": form}, format="json" if form == "kinesis" else "kinesis")
    record = ctx.event(Made("t-1"), key="k-ä", topic="b", event_id="e-1")
    assert (record.topic, record.key) == ("b", "k-ä".encode())
    assert ("traceparent", PARENT.encode()) in record.headers
    batch = RecordBatch(
        TopicPartition("b", 0),
        [StoredRecord(0, 0, None, record.value, record.headers)],
        start=0,
        next_offset=1,
        nbytes=1,
    )
    decoded = Decoder([Made], StreamOptions(format=form), "b").decode(batch)
    assert decoded.events == [Made("t-1")]
    assert list(decoded.ids or [""]) == ["e-1" if keeps_event_ids(form) else ""]
    assert (ctx.stored, ctx.emitted) == (True, [])


def test_the_first_topic_is_the_default_and_another_s_format_is_cloudevents() -> None:
    ctx = context(topics=["a", "b"])
    ctx.emit(Made("t-1"), key="k")
    ctx.emit(Made("t-1"), key="k", topic="elsewhere")
    first, other = ctx.emitted
    assert (first.topic, other.topic, ctx.stored) == ("a", "elsewhere", False)
    data = json.loads(base64.b64decode(json.loads(first.value or b"")["kinesis"]["data"]))
    assert data == {"type": "thing.made", "thingId": "t-1", "text": ""}
    assert dict(other.headers)["ce_type"] == b"thing.made"
    ids = {json.loads(first.value or b"")["eventID"], (dict(other.headers)["ce_id"] or b"").decode()}
    assert len({uuid.UUID(one) for one in ids}) == 2


@pytest.mark.parametrize("form", ["kinesis", "cloudevents"])
async def test_an_event_that_no_broker_would_take_is_413_and_nothing_is_stored(tmp_path: Path, form: Format) -> None:
    stored: list[OutRecord] = []

    async def store(ctx: HttpContext, length: int, is_emitted: bool) -> None:
        event = Made("t-1", "\N{PILE OF POO}" * length)
        if is_emitted:
            ctx.emit(event, key="k")
        else:
            stored.append(ctx.event(event, key="k"))

    made = Rig(tmp_path, Http("POST", "/", store, public=True), stream=StreamOptions(format=form))
    async with made.client() as client:
        for is_emitted in ("true", "false"):
            answers = [await client.post(f"/?is_emitted={is_emitted}&length={n}") for n in (150_000, 300_000)]
            assert [answer.status_code for answer in answers] == [204, 413]
            assert answers[1].json() == {"error": "The event is larger than 1048576 bytes"}
    assert (len(stored), len(made.producer.records())) == (1, 1)


async def test_the_largest_event_that_is_taken_fits_the_broker(tmp_path: Path) -> None:
    """Kafka's default, 1,048,588, is for a batch: 61 bytes, and about 20 and 4 per header for the record."""
    ctx = context(format="cloudevents")
    low, high = 1_000_000, 1_100_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            record = ctx.event(Made("t-1", "x" * middle), key="k" * 100)
            low = middle
        except Refusal:
            high = middle
    size = len(record.value or b"") + len(record.key or b"") + 20
    assert 1_048_000 < size + 61 + sum(len(name) + len(value or b"") + 4 for name, value in record.headers) < 1_048_588


async def test_events_reach_the_broker_in_their_order_or_the_caller_is_told(tmp_path: Path) -> None:
    async def emit(ctx: HttpContext, count: int, fails: bool = False) -> Problem | None:
        for number in range(count):
            ctx.emit(Made(str(number)), key="k", event_id=ctx.new_id(str(number)))
        return Problem(422, "No") if fails else None

    made = Rig(tmp_path, Http("POST", "/", emit, public=True))
    async with made.client() as client:
        answers = [await client.post("/?count=50", headers={"idempotency-key": "k"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [204, 204]
        ids = [json.loads(record.value or b"")["eventID"] for record in made.producer.broker.records(TOPIC)]
        assert ids[:50] == ids[50:]
        assert len(set(ids)) == 50
        made.producer.down = True
        assert (await client.post("/?count=1")).status_code == 503
        assert (await client.post("/?count=0")).status_code == 204
        made.producer.down = False
        assert (await client.post("/?count=1&fails=true")).status_code == 422


@pytest.mark.parametrize(
    ("refusals", "status"),
    [
        ([RecordTooLarge("topic events: MessageSizeTooLargeError")], 413),
        ([RecordRefused("topic events: InvalidRecordError")], 500),
        ([BrokerError("down"), RecordTooLarge("topic events: MessageSizeTooLargeError")], 413),
        ([BrokerError("down")], 503),
    ],
)
async def test_a_caller_is_told_to_come_again_only_where_that_may_help(
    tmp_path: Path, refusals: list[BrokerError], status: int
) -> None:
    class Refusing(Faults):
        async def before_send(self, record: OutRecord) -> BrokerError | None:
            return left.pop(0)

    async def emit(ctx: HttpContext) -> None:
        for _ in refusals:
            ctx.emit(Made("t-1"), key="k")

    left = list(refusals)
    made = Rig(tmp_path, Http("POST", "/", emit, public=True))
    made.producer.broker.faults = Refusing()
    async with made.client() as client:
        answer = await client.post("/")
    assert (answer.status_code, "retry-after" in answer.headers) == (status, status == 503)


async def test_a_call_holds_its_place_until_the_broker_has_its_events(tmp_path: Path) -> None:
    sending, release = asyncio.Event(), asyncio.Event()

    class Slow(Faults):
        async def before_send(self, record: OutRecord) -> None:
            sending.set()
            await release.wait()

    async def emit(ctx: HttpContext) -> None:
        ctx.emit(Made("t-1"), key="k")

    made = Rig(tmp_path, Http("POST", "/", emit, public=True, concurrency=1))
    made.producer.broker.faults = Slow()
    async with made.client() as client:
        first = asyncio.ensure_future(client.post("/"))
        await sending.wait()
        assert (await client.post("/")).status_code == 503
        assert made.gateway.snapshot().functions[0].in_flight == 1
        release.set()
        assert ((await first).status_code, (await client.post("/")).status_code) == (204, 204)
    assert not made.gateway.busy


async def test_the_time_is_the_gateway_s(tmp_path: Path) -> None:
    async def when(ctx: HttpContext) -> float:
        return ctx.now.timestamp()

    made = Rig(tmp_path, Http("GET", "/", when, public=True))
    made.now = time.time() + 1_000
    async with made.client() as client:
        assert (await client.get("/")).json() == pytest.approx(made.now)


async def test_a_number_that_no_reader_takes_is_not_sent(tmp_path: Path) -> None:
    class Rate(Event, tag="rate"):
        value: float

    async def emit(ctx: HttpContext, value: float) -> None:
        ctx.emit(Rate(value / 1e-308), key="k")

    made = Rig(tmp_path, Http("POST", "/", emit, public=True))
    async with made.client() as client:
        answers = [await client.post(f"/?value={value}") for value in ("1", "1e300")]
    assert [answer.status_code for answer in answers] == [204, 500]
    assert len(made.producer.records()) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "a, b\x7f"])
async def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    async def nothing(ctx: HttpContext) -> None: ...

    async with Rig(tmp_path, Http("POST", "/", nothing, public=True)).client() as client:
        answer = await client.post("/", headers={"idempotency-key": key.encode()})
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["Idempotency-Key"])
