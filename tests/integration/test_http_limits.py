"""The gateway under attack on real sockets: it answers or closes, goes on, and stays as large as it was."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.integration.attacked import Server, crowd, serving, status_of
from tests.unit.http.wire import Wire, connect, request, wire

MIB = 1_048_576
READING = b'{"sensorId":"s","timestamp":"2026-01-02T03:04:05Z","temperature":1,"humidity":2},'


@pytest.fixture(scope="module", autouse=True)
def many_files() -> None:
    """As many as the system allows, for the callers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def flat(server: Server, *, grows_mib: float) -> AsyncIterator[None]:
    """Within the block the server takes at most so much memory more, at any time, and goes on after it."""
    assert await server.goes_on()
    server.forget_peak()
    before = server.memory()
    yield
    assert await server.goes_on()
    grown = server.memory("VmHWM") - before
    assert grown < grows_mib, f"{before:.0f} MiB, and {grown:.1f} MiB more"


async def pour(caller: Wire, head: str, parts: Iterable[bytes]) -> int:
    """The status of the answer to a head, 0 without one, while parts are sent until it comes and further."""
    answer = asyncio.ensure_future(caller.answer())
    try:
        await caller.send(head.encode())
        for part in parts:
            await caller.send(part)
        return (await answer).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return answer.result().status if answer.done() and not answer.exception() else 0
    finally:
        answer.cancel()


POST = "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize("path", ["/things", "/readings", "/nope", "/private/a"])
async def test_200_mb_cost_no_memory_with_or_without_a_length(path: str) -> None:
    part = b"[" * MIB
    chunk = b"%x\r\n%s\r\n" % (len(part), part)
    async with serving() as server, flat(server, grows_mib=12):
        for head, one in ((f"content-length: {200 * MIB}", part), ("transfer-encoding: chunked", chunk)):
            async with wire(server.address) as caller:
                status = await pour(caller, f"{POST.format(path)}{head}\r\n\r\n", [one] * 200)
                assert status == {"/things": 413, "/readings": 413, "/nope": 404, "/private/a": 405}[path]


def many(one: bytes, count: int) -> bytes:
    return b"[" + one * (count - 1) + one[:-1] + b"]"


BODIES = {
    "a million readings": (many(READING, 1_000_000), 413),
    "what fits of them": (many(READING, 4 * MIB // len(READING)), 400),
    "a million empty objects": (many(b"{},", 1_000_000), 400),
    "a million lists": (many(b"[],", 1_000_000), 400),
    "a long text": (b'"' + b"x" * (4 * MIB - 2) + b'"', 400),
    "a long text of NUL": (b'{"sensorId":"' + b"\\u0000" * 690_000 + b'"}', 400),
    "many unknown fields": (b"{" + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}", 400),
    "one field many times": (b"{" + b'"sensorId":"s",' * 270_000 + b'"x":1}', 400),
    "nested": (b"[" * 4_000_000, 400),
}


async def test_bodies_that_become_large_when_they_are_read_are_refused_at_their_own_cost() -> None:
    async with serving(head_timeout_s=20.0) as server:
        async with flat(server, grows_mib=48):
            for name, (body, status) in BODIES.items():
                async with wire(server.address) as caller:
                    head = f"{POST.format('/readings')}content-length: {len(body)}\r\n\r\n"
                    assert await pour(caller, head, [body]) == status, name
        async with flat(server, grows_mib=64):
            body = BODIES["a million empty objects"][0]
            head = f"{POST.format('/readings')}content-length: {len(body)}\r\n\r\n"
            callers = [await connect(server.address) for _ in range(10)]
            assert await asyncio.gather(*(pour(one, head, [body]) for one in callers)) == [400] * 10
            for one in callers:
                one.close()


FLOODS = {
    "requests whose answers nobody reads": ("", request("/nope") * 2_000),
    "requests behind one that hangs": ("GET /hang HTTP/1.1\r\nhost: x\r\n\r\n", request("/nope") * 2_000),
    "headers": ("GET / HTTP/1.1\r\n", b"a: b\r\n" * 20_000),
    "one header": ("GET / HTTP/1.1\r\na: ", b"b" * 100_000),
    "a path": ("GET /", b"a" * 100_000),
    "trailers": (f"{POST.format('/things')}transfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 20_000),
    "one trailer": (f"{POST.format('/things')}transfer-encoding: chunked\r\n\r\n0\r\na: ", b"b" * 100_000),
    "chunks of one byte": (f"{POST.format('/readings')}transfer-encoding: chunked\r\n\r\n", b"1\r\n[\r\n" * 20_000),
    "extensions": (f"{POST.format('/things')}transfer-encoding: chunked\r\n\r\n1;a=", b"b" * 100_000),
    "upgrades": ("", request("/nope", "connection: upgrade", "upgrade: h2c") * 2_000),
}


async def test_floods_of_all_kinds_are_cut_off_at_their_own_cost() -> None:
    async def flood(address: str, name: str) -> None:
        head, part = FLOODS[name]
        async with wire(address) as caller:
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
            with suppress(ConnectionError):
                async with asyncio.timeout(20):
                    await caller.send(head.encode())
                    for _ in range(200):
                        await caller.send(part)
                    while not caller.writer.transport.is_closing():
                        caller.writer.write(b"x")
                        await asyncio.sleep(0.05)

    async with serving(head_timeout_s=1.0) as server, flat(server, grows_mib=96):
        await asyncio.gather(*(flood(server.address, name) for name in FLOODS for _ in range(3)))


async def test_ten_thousand_connections_are_answered_or_told_and_the_server_goes_on(
    record_property: Callable[[str, object], None],
) -> None:
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 2_000)
    most = count - 2_000
    async with serving(connections_max=most, head_timeout_s=60.0, keep_alive_s=60.0) as server:
        assert await server.goes_on()
        before = server.memory()
        wires = await crowd(server.address, count)
        statuses: list[int] = []
        for start in range(0, count, 500):
            statuses += await asyncio.gather(*(status_of(one, request("/things/a")) for one in wires[start:][:500]))
        kib = (server.memory() - before) * 1_024 / most
        record_property("KiB per idle connection", round(kib, 1))
        assert [statuses.count(status) for status in (200, 503, 0)] == [most, 1_000, 1_000]
        assert statuses[:most] == [200] * most
        assert kib < 40
        assert most < server.files() < most + 100
        again = [await status_of(one, request("/things/a")) for one in wires[:most:100]]
        assert set(again) == {200}
        for one in wires:
            one.close()
        async with asyncio.timeout(20):
            while server.files() > 50:
                await asyncio.sleep(0.01)
        assert await server.goes_on()


async def test_files_that_run_out_end_no_server() -> None:
    async with serving(files=100, head_timeout_s=60.0) as server:
        wires = await crowd(server.address, 400)
        statuses = await asyncio.gather(
            *(asyncio.wait_for(status_of(one, request("/things/a")), 30) for one in wires[:50])
        )
        assert statuses == [200] * 50
        for one in wires:
            one.close()
        async with asyncio.timeout(30):
            while True:
                with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                    if await server.goes_on():
                        break


async def test_those_who_ask_slowly_do_not_keep_others_from_being_answered() -> None:
    async with serving(connections_max=300, head_timeout_s=0.5) as server:
        wires = await crowd(server.address, 250)
        for number, one in enumerate(wires):
            head = f"{POST.format('/things')}content-length: 10\r\n\r\n{{"
            await one.send([b"GET /things/a HT", b"", head.encode(), b"GET /hang HTTP/1.1\r\n\r\n"][number % 4])
        for _ in range(20):
            assert await server.goes_on()
        closed = [await one.is_closed() for number, one in enumerate(wires) if number % 4 < 2]
        assert closed == [True] * len(closed)
        late = [await one.answer() for one in wires[2::4]]
        assert {answer.status for answer in late} == {408}
        for one in wires:
            one.close()
