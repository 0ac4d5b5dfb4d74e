"""The application, with functions that take their time; what begins and ends is written down."""

import asyncio
import time
from dataclasses import replace
from functools import wraps
from typing import Any

from handlers.app import app as shop
from handlers.users import create_user
from streamproc import Answer, Http, HttpContext
from tests.integration.shop import write_down

SLOW = "slow"


class Held(Answer):
    """Done."""

    seconds: float


async def hold(seconds: float, ctx: HttpContext[Any]) -> Held:
    """Waits."""
    write_down("begin", "hold", 0)
    await asyncio.sleep(seconds)
    write_down("end", "hold", 0)
    return Held(seconds=seconds)


def hold_thread(seconds: float, ctx: HttpContext[Any]) -> Held:
    """Waits, and cannot be interrupted."""
    write_down("begin", "hold", 0)
    time.sleep(seconds)
    return Held(seconds=seconds)


@wraps(create_user)
async def noted(**arguments: Any) -> Any:
    """Makes a user, after a while if its name is SLOW; what is written down has the id of the request."""
    write_down("begin", arguments["ctx"].request_id, 0)
    await asyncio.sleep(arguments["new"].name == SLOW)
    answer = await create_user(**arguments)
    write_down("end", arguments["ctx"].request_id, 0)
    return answer


app = replace(
    shop,
    functions=[
        *(replace(one, handler=noted) if one.handler is create_user else one for one in shop.functions),
        Http("GET", "/hold", hold, timeout_s=3600),
        Http("GET", "/hold-thread", hold_thread, timeout_s=3600),
    ],
)
