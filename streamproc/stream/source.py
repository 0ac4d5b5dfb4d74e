"""Stage 1: polls the partitions that are wanted and hands on what comes, in lists.

It polls for ever, also when nothing is wanted, because a member that does not poll is thrown out of its group; and it
never waits for a handler. A batch that does not start where its partition stands is not handed on: the consumer is
sent back to where it does (CONTIGUOUS).
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
    """The intake of one pipeline. `admit` gets one batch at a time; the loop may run between two.

    `now` is in seconds since the epoch; `holds` says whether the partitions are surely this member's.
    """

    def __init__(
        self,
        consumer: Consumer,
        engine: Engine,
        *,
        admit: Callable[[RecordBatch], None],
        now: Callable[[], float],
        holds: Callable[[], bool],
    ) -> None:
        self._consumer = consumer
        self._engine = engine
        self._admit = admit
        self._now = now
        self._holds = holds
        self.stopping = False

    async def run(self) -> None:
        """Until `stopping` is set. Raises BrokerError when the group cannot go on."""
        loop = asyncio.get_running_loop()
        keepalive_at = 0.0
        while not self.stopping:
            for partition, offset in self._engine.to_ask_again(self._now()).items():
                self._consumer.seek(partition, offset)
            wanted = self._engine.wanted() if self._holds() else ()
            if wanted:
                held_back = len(wanted) < len(self._engine.ledgers)
                wait_s = POLL_SOME_S if held_back else POLL_S
                await self._take_in(await self._consumer.poll(wanted, wait_s, max_bytes=self._engine.room()))
            elif loop.time() >= keepalive_at:
                keepalive_at = loop.time() + KEEPALIVE_S
                await self._consumer.poll((), 0, max_bytes=1)
            else:
                await asyncio.sleep(FULL_S)

    async def _take_in(self, polled: Sequence[RecordBatch | PartitionStopped]) -> None:
        for item in polled:
            if isinstance(item, PartitionStopped):
                if self._engine.stop(item, self._now()):
                    log.error("%s-%d is not read on, %s: %s", *item.partition, item.reason, item.detail)
            elif self._engine.takes(item):
                self._admit(item)
                await asyncio.sleep(0)
            elif (offset := self._engine.reread(item.partition)) is not None:
                log.debug("%s-%d: a batch from %d on, not %d", *item.partition, item.start, offset)
                self._consumer.seek(item.partition, offset)
