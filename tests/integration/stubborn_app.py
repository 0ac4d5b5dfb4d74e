"""Functions and services that do not end when they are told to; what begins is written down."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from streamproc import App, Context, Event, Http, HttpContext, Stream
from tests.integration.shop import Stall, stall, write_down

LONG_S = 3_600.0


class Cling(Event, tag="cling"):
    """A call that holds on to its process in one `way`."""

    key: str
    n: int
    way: Literal["swallow", "finally", "sleep", "busy", "thread"]


async def cling(event: Cling, ctx: Context[None]) -> None:
    """Begins, and does not end."""
    write_down("begin", event.key, event.n)
    match event.way:
        case "swallow":
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(LONG_S)
        case "finally":
            try:
                await asyncio.sleep(LONG_S)
            finally:
                await asyncio.shield(asyncio.sleep(LONG_S))
        case "sleep":
            time.sleep(LONG_S)  # noqa: ASYNC251
        case "busy":
            while True:
                pass
        case "thread":
            await asyncio.to_thread(time.sleep, LONG_S)


@asynccontextmanager
async def services(_settings: Any) -> AsyncIterator[None]:
    """What STUBBORN names takes for ever: to open, to open by a blocking call, or to close."""
    stubborn = os.environ.get("STUBBORN", "")
    if stubborn:
        write_down("begin", stubborn, 0)
    if stubborn == "open":
        await asyncio.sleep(LONG_S)
    if stubborn == "open-blocking":
        time.sleep(LONG_S)  # noqa: ASYNC251
    yield None
    if stubborn == "close":
        await asyncio.sleep(LONG_S)
    if stubborn == "close-blocking":
        time.sleep(LONG_S)  # noqa: ASYNC251


app = App(functions=[Stream(Cling, cling), Stream(Stall, stall)], services=services)


async def greet(ctx: HttpContext[None]) -> str:
    """Answers."""
    return "hello"


api = App(functions=[Http("GET", "/hello", greet, public=True)])
