"""What probes are told of a process, looked at once a second, and what the log is told of it.

`/livez` fails only where a restart helps. What is stuck from outside is for `/readyz`, with the reason.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from streamproc.model import FunctionSnapshot, Snapshot, TopicPartition
from streamproc.stream.health import CallLimits, Calls, Watch
from streamproc.stream.pool import Pool

log = logging.getLogger(__name__)

LOOK_S = 1.0
ASK_S = 30.0
"""How often Kafka is asked whether it answers others than a consumer that hears nothing."""
NOTICE_S = 5.0
"""What makes a process not ready for less than this many seconds, as joining a group does, is not worth a line."""
TELL_S = 60.0
"""How often the log is told of what lasts."""


class Part(Protocol):
    """A part of a process."""

    def ready(self) -> str:
        """Returns why it does no useful work, in words that say what to do or where to look; empty when it does."""


class Health:
    """What probes are told. A process is not ready while `phase`, of its start or its end, is not empty.

    `answers` says whether Kafka answers somebody else; it is asked only when a consumer has heard nothing for long.
    """

    def __init__(
        self, limits: Mapping[str, CallLimits], now: Callable[[], float], answers: Callable[[], Awaitable[bool]]
    ) -> None:
        self.phase = "it starts"
        self.now = now
        self._answers = answers
        self._watch = Watch(limits)
        self._calls = Calls(limits)
        self._pool = Pool([])
        self._parts: list[Part] = []
        self._http: Callable[[], Sequence[FunctionSnapshot]] = tuple
        self._tasks: list[asyncio.Task[None]] = []
        self._confirmed = False
        self._ask_at = 0.0
        self._told = Told()

    def add(self, part: Part) -> None:
        """Asks a part from now on."""
        self._parts.append(part)

    def read(self, pool: Pool) -> None:
        """Looks at the pipelines of a pool."""
        self._pool = pool
        if pool.reads:
            self._parts.append(self._watch)

    def answer(self, functions: Callable[[], Sequence[FunctionSnapshot]]) -> None:
        """Looks at the HTTP functions."""
        self._http = functions

    def rely_on(self, task: "asyncio.Task[None]") -> None:
        """Counts the process as dead when this task ends by itself."""
        self._tasks.append(task)

    def live(self) -> str:
        """Returns why the process should be restarted; empty when that would not help."""
        ended = (f"its {task.get_name()} has ended{_cause(task)}" for task in self._tasks if task.done())
        return (
            ("" if self.phase else next(ended, ""))
            or self._calls.hung()
            or (self._watch.suspicion() if self._confirmed else "")
        )

    def ready(self) -> str:
        """Returns why the process does no useful work, part by part; empty when it does."""
        return self.phase or "; ".join(filter(None, (part.ready() for part in self._parts)))

    def snapshots(self) -> Sequence[Snapshot]:
        """Frozen numbers of each pipeline."""
        return self._pool.snapshots()

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition, where known."""
        return self._pool.end_offsets()

    async def keep_looking(self) -> None:
        """Looks for ever."""
        while True:
            self.look()
            await self._confirm()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Takes in how things stand, and tells the log."""
        now, snapshots = self.now(), self.snapshots()
        silent_s, trouble = self._pool.silent_s(), self._pool.trouble()
        self._watch.look(snapshots, self.end_offsets(), trouble=trouble, silent_s=silent_s, now=now)
        self._calls.look([*(snapshot.functions for snapshot in snapshots), self._http()], now=now)
        if not self.phase:
            self._told.tell(self.live(), self.ready(), now)

    async def _confirm(self) -> None:
        """Asks whether it is Kafka that does not answer, which no restart helps."""
        if not self._watch.suspicion():
            self._confirmed = False
        elif self.now() >= self._ask_at:
            self._confirmed = await self._answers()
            self._ask_at = self.now() + ASK_S


class Told:
    """What the log was told: a line when something lasts, one a minute, and one when it is over."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._tell_at: float | None = None

    def tell(self, dead: str, unready: str, now: float) -> None:
        """Writes the line that is due, of what lasts at this time in seconds."""
        if not (dead or unready):
            if self._tell_at is not None and self._since is not None:
                log.info("ready again, after %.0f s", now - self._since)
            self._since = self._tell_at = None
            return
        self._since = now if self._since is None else self._since
        if now >= (self._since + NOTICE_S if self._tell_at is None else self._tell_at):
            self._tell_at = now + TELL_S
            if dead:
                log.error("not alive, it should be restarted: %s", dead)
            else:
                log.warning("not ready: %s", unready)


@asynccontextmanager
async def watching(health: Health) -> AsyncIterator[None]:
    """Looks for as long as the block runs."""
    looking = asyncio.create_task(health.keep_looking(), name="watch of itself")
    health.rely_on(looking)
    try:
        yield
    finally:
        looking.cancel()


def _cause(task: "asyncio.Task[None]") -> str:
    error = None if task.cancelled() else task.exception()
    return f": {type(error).__name__}: {error}" if error is not None else ""
