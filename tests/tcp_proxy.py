"""A TCP proxy that breaks connections where a test wants it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Moment = Literal["before", "after"]


class Proxy:
    """Passes bytes on; `cut` and `freeze` say when it no longer does."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pattern = b""
        self._moment: Moment = "before"
        self._cuts_left = 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._may_end = asyncio.Event()
        self._may_end.set()
        self.ended = asyncio.Event()
        self.port = 0
        self.cuts = 0
        self.requests = 0

    def cut(self, moment: Moment, pattern: bytes, *, times: int = 1) -> None:
        """Breaks a connection when its client sends `pattern`: before the server gets it, or after it answered."""
        self._moment, self._pattern, self._cuts_left = moment, pattern, times

    def freeze(self) -> None:
        """Passes nothing on, and breaks nothing."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Passes on what waits, and all that follows."""
        self._thawed.set()

    def hold_ends(self) -> None:
        """Passes on what a server says, but not that it hangs up; `ended` tells when it did."""
        self.ended.clear()
        self._may_end.clear()

    def pass_ends(self) -> None:
        """Passes on that servers hung up."""
        self._may_end.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client."""
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        answering = asyncio.ensure_future(self._pass_on(far_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                self.requests += 1
                await self._thawed.wait()
                if self._cuts_left and self._pattern in data:
                    await self._break_off(data, answering, far_reader, far_writer)
                    break
                far_writer.write(data)
        except ConnectionError:
            pass
        finally:
            answering.cancel()
            for one in (writer, far_writer):
                one.close()

    async def _break_off(
        self,
        data: bytes,
        answering: "asyncio.Future[None]",
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self._cuts_left -= 1
        self.cuts += 1
        if self._moment == "after":
            answering.cancel()
            await asyncio.wait([answering])
            far_writer.write(data)
            assert await far_reader.read(1 << 16)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._thawed.wait()
                writer.write(data)
            self.ended.set()
            await self._may_end.wait()
            writer.close()


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port of 127.0.0.1, for as long as the block runs."""
    made = Proxy(host, port)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        made.thaw()
        made.pass_ends()
