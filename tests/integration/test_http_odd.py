"""Requests that no client would send, on real sockets: refused, and neither metrics nor logs keep anything of them."""

import asyncio

from tests.integration.attacked import crowd, serving, status_of
from tests.unit.http.wire import request, wire

TARGETS = (
    "things/a", "http://x/things/a/b", "http://x", "https://x:1/nope", "x:80", "*", "//things/a", "/things//", "/%00",
    "/things/%00", "/things/%2e%2e/x", "/things/%2e%2e%2f", "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "/;a",
    "/things/\xff", "/things%ff", "/\r\nx: y", "/things/a?q=\r\nset-cookie: x", "/things/a?q=%00", "/things/a?q=%ff",
    "/things/a?" + "&" * 200, "/things/a?q=1&q=2", f"/things/{'a' * 5_000}/b", "/.", "/things/a/", "/THINGS/a", "/ a",
    "/things\\a", *(f"/nope{n}" for n in range(100)), *(f"/things/a?q={n}%00" for n in range(100)),
)  # fmt: skip
METHODS = (
    "PROPFIND",
    "PURGE",
    "TRACE",
    "LINK",
    "M-SEARCH",
    "PUT",
    "get",
    "Get",
    "BREW",
    "G\x00T",
    "GET\t",
    "",
    "GET GET",
)
LINES = [
    *(f"GET {target} HTTP/1.1" for target in TARGETS),
    *(f"{method} /things/a HTTP/1.1" for method in METHODS),
    *(f"{method} /private/a HTTP/1.1" for method in ("GET", "HEAD", "OPTIONS", "POST", "CONNECT")),
    *(f"GET /private/{n} HTTP/1.1\r\nauthorization: Bearer {n}" for n in range(100)),
    *(f"GET /private/a HTTP/1.1\r\n{header}" for header in ("x: a\rb", "x\x00: y", "x y: z", "x-method: HEAD")),
    "GET /things/a HTTP/9.9", "GET /things/a", "GET /things/a HTTP/2.0", "PRI * HTTP/2.0",
]  # fmt: skip


async def test_odd_requests_are_4xx_or_closed_and_add_no_series() -> None:
    async with serving(head_timeout_s=0.3) as server:
        for path in ("/things/a", "/things/a?q=%00", "/nope", "/private/a"):
            async with wire(server.address) as caller:
                await caller.ask(request(path))
                await caller.ask(request("/things/a", method="PUT"))
        before = await server.series()
        for line in LINES:
            async with wire(server.address) as caller:
                status = await status_of(caller, f"{line}\r\nhost: x\r\n\r\n".encode("latin-1"))
                assert status == 0 or 400 <= status < 500, line
        assert await server.series() == before


CANARY = "c4nary"


async def test_nothing_a_caller_sends_gets_into_a_log_whatever_is_logged() -> None:
    async with serving(debug=True) as server:
        for token in (server.token, f"{CANARY}.{CANARY}.{CANARY}", f"{CANARY}\xe4", CANARY * 2_000):
            for target in ("/private/a", f"/private/a?token={CANARY}", f"/nope?{CANARY}=%00"):
                async with wire(server.address) as caller:
                    secret = (f"authorization: Bearer {token}", f"cookie: {CANARY}", f"x-api-key: {CANARY}")
                    await status_of(caller, request(target, *secret))
        for data in (
            request(
                "/things", f"x: {CANARY}", method="POST", body=b'{"name": 5, "%s": "%s"}' % ((CANARY.encode(),) * 2)
            ),
            request("/things", method="POST", body=b'{"name": "%s' % CANARY.encode()),
            f"GET /things/a?{CANARY} HTTP/1.1\r\nauthorization : {CANARY}\r\n\r\n".encode(),
            f"BREW /{CANARY} HTTP/1.1\r\nauthorization: {CANARY}\r\n\r\n".encode(),
            request("/things/a", f"authorization: {CANARY}", "connection: upgrade", "upgrade: websocket"),
        ):
            async with wire(server.address) as caller:
                await status_of(caller, data)
    log = server.log.decode()
    assert "a token was refused" in log
    assert "streamproc.access" in log
    assert CANARY not in log
    assert server.token not in log


async def test_at_the_end_what_hangs_is_cut_off_and_the_process_ends() -> None:
    async with serving(stop_s=0.3) as server:
        wires = await crowd(server.address, 50)
        for number, one in enumerate(wires):
            await one.send([request("/hang"), b"GET /th", request("/things/a"), b""][number % 4])
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5
    assert b"Traceback" not in server.log
    for one in wires:
        one.close()
