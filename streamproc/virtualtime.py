"""An event loop whose time is virtual: when nothing can run, it jumps to the next timer instead of waiting.

An hour of `asyncio.sleep` takes no time, and the same program takes the same steps each time. Sockets of other
machines have no place in it; threads do: while one is at work, the loop really waits for it.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Nothing is scheduled and nothing can happen any more."""


def tick() -> float:
    """Seconds by the running loop's time, from 1 on: what times the calls of a pipeline in virtual time."""
    return 1 + asyncio.get_running_loop().time()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. Time starts at 0 and is in seconds."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.threads_at_work = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.elapsed_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Runs in a thread, in real time; virtual time stands still meanwhile."""
        self.threads_at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self) -> None:
        """Waits for the loop's own threads; the wait itself happens in one."""
        self.threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self.threads_at_work -= 1

    def _thread_ended(self, _: object) -> None:
        self.threads_at_work -= 1


class _Selector(selectors.BaseSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.threads_at_work:
            return self._real.select(None)
        if timeout is None:
            raise Deadlock("every task waits for another and no timer is set")
        self._loop.elapsed_s += timeout
        return []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end in virtual time; what it leaves running is cancelled."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
