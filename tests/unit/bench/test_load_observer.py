"""What the load generator makes of the answers of a service, from a real operations server."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Total

from bench.load_observer import REMEMBERED, Handling, Observer
from streamproc.errors import ConfigError
from streamproc.http.ops import OpsOptions, serve
from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition
from tests.integration.harness import until

TOPIC = "events"


def found(parts: Any) -> list[tuple[float, list[float]]]:
    return [(at, list(turns)) for at, turns in parts]


def test_a_record_is_handled_at_the_first_poll_above_its_offset() -> None:
    handling = Handling()
    assert found(handling.acknowledged(100, array("d", [0.1, 0.2, 0.3]))) == []
    assert found(handling.reached(100, 1.0)) == []
    assert found(handling.reached(102, 2.0)) == [(2.0, [0.1, 0.2])]
    assert found(handling.reached(102, 3.0)) == []
    assert found(handling.acknowledged(103, array("d", [0.4]))) == []
    assert found(handling.reached(500, 4.0)) == [(4.0, [0.3]), (4.0, [0.4])]


def test_a_late_acknowledgement_takes_the_polls_before_it() -> None:
    handling = Handling()
    for done, at in ((8, 1.0), (11, 2.0), (11, 3.0), (13, 4.0)):
        assert found(handling.reached(done, at)) == []
    assert found(handling.acknowledged(10, array("d", [0.1, 0.2, 0.3, 0.4]))) == [(2.0, [0.1]), (4.0, [0.2, 0.3])]
    assert found(handling.reached(14, 5.0)) == [(5.0, [0.4])]


def test_a_new_owner_that_begins_again_takes_nothing_back() -> None:
    handling = Handling()
    handling.reached(20, 1.0)
    assert found(handling.reached(5, 2.0)) == []
    assert found(handling.acknowledged(19, array("d", [0.5, 0.6]))) == [(1.0, [0.5])]


def test_polls_of_long_ago_are_forgotten() -> None:
    handling = Handling()
    for poll in range(3 * REMEMBERED):
        handling.reached(poll, float(poll))
    ((at, _turns),) = found(handling.acknowledged(0, array("d", [0.0])))
    assert at > 0


class Process:
    """A Health whose partitions a test sets."""

    def __init__(self, *done: int, topic: str = TOPIC) -> None:
        self.topic = topic
        self.done = dict(enumerate(done))
        self.broken = False

    def live(self) -> str:
        return ""

    def ready(self) -> str:
        return ""

    def snapshots(self) -> Sequence[Snapshot]:
        if self.broken:
            raise RuntimeError
        ours = {TopicPartition(self.topic, number): done for number, done in self.done.items()}
        rows = [PartitionSnapshot(one, 1, done, done, done, 0, 0.0) for one, done in ours.items()]
        return [Snapshot(partitions=rows)]

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        return {TopicPartition(self.topic, 0): 50}

    def now(self) -> float:
        return 0.0


@asynccontextmanager
async def worker(process: Process, registry: CollectorRegistry | None = None) -> AsyncIterator[str]:
    """The URL of the metrics of a worker."""
    async with serve(OpsOptions(listen="127.0.0.1:0"), process, registry or CollectorRegistry()) as address:
        yield f"http://{address}/metrics"


@asynccontextmanager
async def watching(observer: Observer) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Lets it watch; gives a function that waits until each (partition, done) was told."""
    told: set[tuple[int, int]] = set()

    async def wait_for(*wanted: tuple[int, int]) -> None:
        await until(lambda: told >= set(wanted), f"{wanted} are told")

    task = asyncio.create_task(observer.watch(lambda partition, done, _at: told.add((partition, done))))
    yield wait_for
    task.cancel()


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[str]:
    """The address of somebody who answers this to anything, and closes; who says nothing if it is nothing."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(answer)
        if answer:
            writer.close()

    async with await asyncio.start_server(serve_one, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def test_all_workers_are_polled_for_how_far_they_are() -> None:
    one, other = Process(10, 20), Process(topic="others")
    async with worker(one) as first, worker(other) as second:
        with pytest.raises(ConfigError, match="does not know the topic events"):
            await Observer([first, second], TOPIC).start(2)
        other.topic, other.done = TOPIC, {2: 30}
        observer = Observer([first, second], TOPIC)
        with pytest.raises(ConfigError, match="partitions 3, 4 of events are in none of them"):
            await observer.start(5)
        await observer.start(3)
        async with watching(observer) as told:
            await told((0, 10), (1, 20), (2, 30))
            one.done[0] = 11
            await told((0, 11))
        assert observer.answers
        assert observer.intervals_ms.total > 0
        observer.close()


async def test_who_goes_and_who_comes_back_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.load_observer.RETRY_S", 0.01)
    process = Process(1)
    async with worker(process) as url:
        observer = Observer([url], TOPIC)
        async with watching(observer) as told:
            await told((0, 1))
            process.broken = True
            await until(lambda: not observer.answers, "it is gone")
            process.broken = False
            await until(lambda: observer.answers, "it is back")
    observer.close()
    gone, back = capsys.readouterr().err.splitlines()
    assert "stopped answering (/debug/partitions answered 'HTTP/1.1 500 " in gone
    assert gone.endswith("; going on with acknowledgements")
    assert back == f"{url} answers again"


async def test_what_a_service_has_still_to_do_at_the_start_is_known() -> None:
    async with worker(Process(10)) as url:
        observer = Observer([url, url], TOPIC)
        await observer.start(1)
        observer.close()
    assert observer.behind == 40


async def test_dead_letters_count_from_the_start_and_from_0_after_a_restart() -> None:
    registry = CollectorRegistry()
    letters = Total("streamproc_dlq_records", "Dead letters.", ["condition"], registry=registry)
    letters.labels("poison").inc(5)
    async with worker(Process(1), registry) as url:
        observer = Observer([url], TOPIC)
        await observer.start(1)
        assert await observer.dead_letters() == 0
        letters.labels("poison").inc(2)
        letters.labels("refused").inc(1)
        assert await observer.dead_letters() == 3
        letters.clear()
        letters.labels("poison").inc(4)
        assert await observer.dead_letters() == 4
    observer.close()
    assert await observer.dead_letters() is None


async def test_without_workers_nothing_is_observed() -> None:
    observer = Observer([], TOPIC)
    await observer.start(4)
    assert not observer.answers
    assert await observer.dead_letters() is None


@pytest.mark.parametrize("url", ["localhost:9464", "https://localhost/metrics", "http://", "http://h:99999/", "x"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="write it as http://HOST:PORT/metrics"):
        Observer([url], TOPIC)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0\r\n\r\n", "answered 'SSH-2.0'"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 'HTTP/1.1 404 Not Found'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "is not whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not understood"),
        (b"\r\n\r\n", "answered ''"),
        (b"x" * 100_000, "is not whole"),
        (b"", "no answer within 0.1 s"),
    ],
)
async def test_who_is_no_service_is_told(answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not answer:
        monkeypatch.setattr("bench.load_observer.ANSWER_S", 0.1)
    async with listening(answer) as address:
        with pytest.raises(ConfigError, match=f"(?s)--metrics http://{address}/ does not answer.*({reason})"):
            await Observer([f"http://{address}/"], TOPIC).start(1)


async def test_an_address_where_nobody_is_is_told() -> None:
    with pytest.raises(ConfigError, match="does not answer as a service does: Connection refused"):
        await Observer(["http://127.0.0.1:1/metrics"], TOPIC).start(1)
