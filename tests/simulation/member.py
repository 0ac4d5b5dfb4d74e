"""A member of the group: one real pipeline, and the ways in which it can end."""

import asyncio
from typing import Any

from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.testing import NoObserver
from tests.simulation.crowd import functions
from tests.simulation.world import GROUP, SimConsumer, SimProducer, World

GRACE_S = 5.0


class Member:
    """Runs as soon as it is made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = f"m{len(world.members) + 1}"
        self.dead = False
        """The process was killed."""
        self.over = False
        """Dead, or at its end after a drain: what its calls still do is of no account."""
        self.leaving = False
        self.consumer = SimConsumer(world, self)
        around = Surroundings(
            consumer=self.consumer,
            producer=SimProducer(world, self),
            observer=NoObserver(),
            services=self,
            group=GROUP,
            now=world.now,
            draw=world.rng.random,
            tick=world.tick,
            wall=world.now,
        )
        self.pipeline = Pipeline(functions(world.scenario), world.scenario.options, around)
        self.task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(self.pipeline.run())
        world.members.append(self)
        world.book.tell(f"{self} joins")

    def __repr__(self) -> str:
        return self.name

    async def leave(self, grace_s: float = GRACE_S) -> bool:
        """Stops in good order."""
        world = self.world
        world.book.tell(f"{self} leaves")
        world.book.counts.leaves += 1
        self.leaving = True
        world.endings.giving_up(self, list(world.book.epochs[self]), grace_s)
        drained = await self.pipeline.stop(grace_s)
        world.endings.gave_up(self, list(world.book.epochs[self]))
        self._end()
        await self.task
        return drained

    def _end(self) -> None:
        self.over = True
        self.world.calls.abandon(self)

    async def kill(self, noticed_after_s: float) -> None:
        """Ends without a word; the group notices it later."""
        world = self.world
        world.book.tell(f"{self} is killed")
        world.book.counts.kills += 1
        self.dead = True
        world.endings.lost(self)
        world.book.close(world.book.epochs[self].values())
        self._end()
        self.consumer.listener = None
        self.task.cancel()
        await asyncio.wait([self.task])
        await asyncio.sleep(noticed_after_s)
        self.consumer.throw_out()

    async def evict(self, noticed_after_s: float) -> None:
        """Is thrown out of the group, goes on, learns of it later, and joins again."""
        world = self.world
        if self.consumer not in world.group.members:
            return
        world.book.tell(f"{self} is evicted")
        world.book.counts.evictions += 1
        world.endings.lost(self)
        lost = list(world.book.epochs[self])
        self.consumer.throw_out()
        await asyncio.sleep(noticed_after_s)
        if not (self.over or self.leaving):
            await self.consumer.revoked(lost)
            self.consumer.come_back()
