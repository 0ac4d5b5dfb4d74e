"""What probes are told of the pipelines of a process, looked at once a second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from streamproc.model import Snapshot
from streamproc.stream.health import Watch
from streamproc.stream.pool import Pool

LOOK_S = 1.0


class PoolHealth:
    """What probes are told."""

    def __init__(self, pool: Pool, now: Callable[[], float]) -> None:
        self._pool = pool
        self._watch = Watch()
        self.now = now
        self.live = self._watch.live
        self.end_offsets = pool.end_offsets

    def ready(self) -> str:
        """Why the process does no useful work; empty when it does, or when it reads no records."""
        return self._watch.ready() if self._pool.reads else ""

    def snapshots(self) -> Sequence[Snapshot]:
        """Frozen numbers of each pipeline."""
        return self._pool.snapshots()

    async def keep_looking(self) -> None:
        """For ever."""
        while True:
            self._watch.look(self.snapshots(), self.end_offsets(), silent_s=self._pool.silent_s(), now=self.now())
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def watching(pool: Pool, now: Callable[[], float]) -> AsyncIterator[PoolHealth]:
    """Looks at a pool for as long as the block runs."""
    health = PoolHealth(pool, now)
    looking = asyncio.ensure_future(health.keep_looking())
    try:
        yield health
    finally:
        looking.cancel()
