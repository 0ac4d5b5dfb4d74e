"""Reads a request's body, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streamproc.http.answer import Problem
from streamproc.http.arguments import Refusal

BYTES_PER_S_MIN = 1_000
"""How fast a body has to come in the end."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """The caller is gone before its request was whole."""


async def read_body(receive: Receive, length: str, *, bytes_max: int, timeout_s: float) -> bytes:
    """The whole body; `length` is the header `content-length`, "" where there is none.

    Raises Refusal with 413 for more than `bytes_max` bytes, as early as that is known, and with 408 when it takes
    longer than `timeout_s` and a second for each 1,000 bytes that came; Disconnected when the caller goes.
    """
    if length.isdecimal() and (len(length) > 18 or int(length) > bytes_max):
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await _read(receive, bytes_max, limit)
    except TimeoutError:
        raise Refusal(Problem(408, "Request timeout", headers={"connection": "close"})) from None


async def _read(receive: Receive, bytes_max: int, limit: asyncio.Timeout) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > bytes_max:
            raise _too_large(bytes_max)
        if not message.get("more_body"):
            return bytes(body + part) if body else part
        seconds = len(body) // BYTES_PER_S_MIN
        body += part
        earned = len(body) // BYTES_PER_S_MIN - seconds
        if earned:
            limit.reschedule((limit.when() or 0.0) + earned)


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(Problem(413, f"The body is larger than {bytes_max} bytes"))
