"""The operations endpoint, over real sockets on loopback."""

import asyncio
import json
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from prometheus_client import CollectorRegistry, Counter

from streamproc.errors import ConfigError
from streamproc.http.ops import OpsOptions, serve
from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)
FREE = OpsOptions(listen="127.0.0.1:0")


class Process:
    """A Health whose answers a test sets."""

    def __init__(self) -> None:
        self.dead = ""
        self.idle = ""
        self.partitions: Sequence[PartitionSnapshot] = ()

    def live(self) -> str:
        return self.dead

    def ready(self) -> str:
        return self.idle

    def snapshots(self) -> Sequence[Snapshot]:
        return [Snapshot(partitions=[one]) for one in self.partitions]

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        return {P0: 200}

    def now(self) -> float:
        return 1_000.0


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    Counter("answers", "Counts.", registry=found).inc()
    return found


async def get(address: str, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Status, content type and body."""

    def ask() -> tuple[int, str, bytes]:
        request = Request(f"http://{address}{path}", method=method)
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
                return answer.status, answer.headers["content-type"], answer.read()
        except HTTPError as error:
            return error.code, error.headers["content-type"], error.read()

    return await asyncio.to_thread(ask)


async def get_json(address: str, path: str) -> tuple[int, Any]:
    status, kind, body = await get(address, path)
    assert kind == "application/json"
    return status, json.loads(body)


async def test_metrics_are_the_registry_as_text() -> None:
    async with serve(FREE, Process(), registry()) as address:
        status, kind, body = await get(address, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert b"answers_total 1.0" in body


async def test_livez_and_readyz_say_why_not() -> None:
    process = Process()
    async with serve(FREE, process, registry()) as address:
        assert await get_json(address, "/livez") == (200, {"status": "ok"})
        assert await get_json(address, "/readyz") == (200, {"status": "ok"})
        process.idle = "no partition is assigned"
        assert await get_json(address, "/livez") == (200, {"status": "ok"})
        failed = (503, {"status": "failed", "reason": "no partition is assigned"})
        assert await get_json(address, "/readyz") == failed
        assert await get_json(address, "/healthz") == failed
        process.dead = "no progress"
        assert await get_json(address, "/livez") == (503, {"status": "failed", "reason": "no progress"})


async def test_partitions_are_told_with_their_lags() -> None:
    process = Process()
    process.partitions = [
        PartitionSnapshot(P1, 2, 5, 5, 5, 0, 0.0, blocked="not_authorized"),
        PartitionSnapshot(P0, 1, 100, 110, 150, 30, 990.5),
    ]
    async with serve(FREE, process, registry()) as address:
        status, found = await get_json(address, "/debug/partitions")
    assert status == 200
    assert found == [
        {
            "topic": "events",
            "partition": 0,
            "epoch": 1,
            "committed": 100,
            "done": 110,
            "admitted": 150,
            "end": 200,
            "lag": 100,
            "backlog": 90,
            "unsettled": 30,
            "oldest_offset": 110,
            "oldest_age_s": 9.5,
            "blocked": "",
        },
        {
            "topic": "events",
            "partition": 1,
            "epoch": 2,
            "committed": 5,
            "done": 5,
            "admitted": 5,
            "end": None,
            "lag": None,
            "backlog": None,
            "unsettled": 0,
            "oldest_offset": None,
            "oldest_age_s": None,
            "blocked": "not_authorized",
        },
    ]


@pytest.mark.parametrize("path", ["/", "//metrics", "/%00", "/metrics/../x", "/x?a=%0d%0ab"])
async def test_other_paths_are_not_found(path: str) -> None:
    async with serve(FREE, Process(), registry()) as address:
        assert (await get(address, path))[0] == 404


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("BREW", 400)])
async def test_other_methods_are_refused(method: str, status: int) -> None:
    async with serve(FREE, Process(), registry()) as address:
        assert (await get(address, "/metrics", method))[0] == status


async def test_what_is_not_http_is_refused_and_the_server_goes_on() -> None:
    async with serve(FREE, Process(), registry()) as address:
        reader, writer = await _connect(address)
        writer.write(b"\x16\x03\x01 metrics\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        assert (await get(address, "/livez"))[0] == 200


async def test_it_serves_when_the_block_begins_and_is_gone_when_it_ends() -> None:
    async with serve(FREE, Process(), registry()) as address:
        _, writer = await _connect(address)
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await _connect(address)


async def test_clients_that_hang_do_not_keep_it_from_ending() -> None:
    async with asyncio.timeout(5), serve(FREE, Process(), _large()) as address:
        kept_alive, half_asked, not_reading = [await _connect(address) for _ in range(3)]
        kept_alive[1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await kept_alive[0].readline()).startswith(b"HTTP/1.1 200")
        half_asked[1].write(b"GET /livez HT")
        not_reading[1].transport.pause_reading()  # type: ignore[attr-defined]
        not_reading[1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        assert (await get(address, "/livez"))[0] == 200
    for _, writer in (kept_alive, half_asked, not_reading):
        writer.transport.abort()


async def test_an_error_in_the_block_comes_through() -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with serve(FREE, Process(), registry()):
            raise RuntimeError("mine")


async def test_signals_stay_with_the_program() -> None:
    both = signal.SIGTERM, signal.SIGINT
    before = [signal.getsignal(one) for one in both]
    async with serve(FREE, Process(), registry()) as address:
        assert (await get(address, "/livez"))[0] == 200
        assert [signal.getsignal(one) for one in both] == before


async def test_empty_is_off() -> None:
    async with serve(OpsOptions(listen=""), Process(), registry()) as address:
        assert address == ""


async def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            async with serve(OpsOptions(listen=listen), Process(), registry()):
                pass
    assert str(caught.value) == f"ops.listen: cannot listen on {listen}: it is in use by another program"


@pytest.mark.parametrize("listen", ["9464", "localhost", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999"])
async def test_what_is_no_address_is_told(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port, as in 127\.0\.0\.1:9464"):
        async with serve(OpsOptions(listen=listen), Process(), registry()):
            pass


async def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:9464: "):
        async with serve(OpsOptions(listen="192.0.2.1:9464"), Process(), registry()):
            pass


async def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serve(OpsOptions(listen="[::1]:0"), Process(), registry()) as address:
        assert address.startswith("[::1]:")
        assert (await get(address, "/livez"))[0] == 200


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def _large() -> CollectorRegistry:
    found = CollectorRegistry()
    counter = Counter("large", "Counts.", ["n"], registry=found)
    for number in range(5_000):
        counter.labels(f"{number:0200}").inc()
    return found
