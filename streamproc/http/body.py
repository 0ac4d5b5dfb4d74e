"""Reads a request's body, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streamproc.http.answer import Problem
from streamproc.http.arguments import Refusal

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """The caller is gone before its request was whole."""


async def read_body(receive: Receive, length: str, *, bytes_max: int, part_timeout_s: float) -> bytes:
    """The whole body; `length` is the header `content-length`, "" where there is none.

    Raises Refusal with 413 for more than `bytes_max` bytes, as early as that is known, and with 408 when a part takes
    longer than `part_timeout_s` seconds; Disconnected when the caller goes.
    """
    if length and int(length) > bytes_max:
        raise _too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(part_timeout_s):
                message = await receive()
        except TimeoutError:
            raise Refusal(Problem(408, "Request timeout", headers={"connection": "close"})) from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > bytes_max:
            raise _too_large(bytes_max)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(Problem(413, f"The body is larger than {bytes_max} bytes", headers={"connection": "close"}))
