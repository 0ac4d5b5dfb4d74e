"""Stage 1: polls the partitions that are wanted and hands on what comes, in lists.

It polls for ever, also when nothing is wanted, because a member that does not poll is thrown out of its group; and it
never waits for a handler.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from streamproc.core.engine import Engine
from streamproc.model import PartitionStopped, RecordBatch
from streamproc.ports import Consumer

log = logging.getLogger(__name__)

POLL_S = 0.2
POLL_SOME_S = 0.02
"""How long a poll may wait while other partitions are held back: they may be wanted again meanwhile."""
FULL_S = 0.005
KEEPALIVE_S = 1.0


class Source:
    """The intake of one pipeline. `admit` gets one batch at a time; the loop may run between two."""

    def __init__(self, consumer: Consumer, engine: Engine, *, admit: Callable[[RecordBatch], None]) -> None:
        self._consumer = consumer
        self._engine = engine
        self._admit = admit
        self.stopping = False

    async def run(self) -> None:
        """Until `stopping` is set. Raises BrokerError when the group cannot go on."""
        loop = asyncio.get_running_loop()
        keepalive_at = 0.0
        while not self.stopping:
            wanted = self._engine.wanted()
            if wanted:
                held_back = len(wanted) < len(self._engine.ledgers)
                polled = await self._consumer.poll(wanted, POLL_SOME_S if held_back else POLL_S)
                await self._take_in(polled)
            elif loop.time() >= keepalive_at:
                keepalive_at = loop.time() + KEEPALIVE_S
                await self._consumer.poll((), 0)
            else:
                await asyncio.sleep(FULL_S)

    async def _take_in(self, polled: Sequence[RecordBatch | PartitionStopped]) -> None:
        epoch = self._engine.epoch
        for item in polled:
            if self._engine.epoch != epoch:
                return
            if isinstance(item, PartitionStopped):
                log.error("%s-%d is stopped, %s: %s", *item.partition, item.reason, item.detail)
                self._engine.stop(item)
            else:
                self._admit(item)
                await asyncio.sleep(0)
