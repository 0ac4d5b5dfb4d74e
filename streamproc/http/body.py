"""Reads a request's body, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streamproc.http.answer import Problem
from streamproc.http.arguments import Refusal

BYTES_PER_S_MIN = 1_000
"""How fast a body has to come in the end."""

BODIES_BYTES_MAX = 134_217_728
"""Of all bodies together that have not come whole; each may be as large as its function allows, and slow."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """The caller is gone before its request was whole."""


class Bodies:
    """Reads bodies. `timeout_s` is for each, with a second more for each 1,000 bytes that came."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._held_bytes = 0

    async def read(self, receive: Receive, length: str, bytes_max: int) -> bytes:
        """The whole body; `length` is the header `content-length`, "" where there is none.

        Raises Refusal with 413 for more than `bytes_max` bytes, as early as that is known, 408 when it takes too long,
        and 503 when all that are read hold too much; Disconnected when the caller goes.
        """
        if length.isdecimal() and (len(length) > 18 or int(length) > bytes_max):
            raise _too_large(bytes_max)
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                return await self._read(receive, body, bytes_max, limit)
        except TimeoutError:
            raise Refusal(Problem(408, "Request timeout", headers={"connection": "close"})) from None
        finally:
            self._held_bytes -= len(body)

    async def _read(self, receive: Receive, body: bytearray, bytes_max: int, limit: asyncio.Timeout) -> bytes:
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
            self._held_bytes += len(part)
            if self._held_bytes > BODIES_BYTES_MAX:
                raise Refusal(Problem(503, "Too many requests at once", headers={"retry-after": "1"}))
            earned = len(body) // BYTES_PER_S_MIN - seconds
            if earned:
                limit.reschedule((limit.when() or 0.0) + earned)


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(Problem(413, f"The body is larger than {bytes_max} bytes"))
