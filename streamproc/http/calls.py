"""The calls of one HTTP function: how many at once, for how long, and what they took.

One timer looks at all calls in flight, so that a call costs no timer of its own.
"""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from streamproc.app import Http
from streamproc.model import SHORT_S

LOOK_S = 0.05


class Expired(Exception):
    """The call ran over its time limit and was cancelled, or is left behind in its thread."""


class Call:
    """A call in flight."""

    __slots__ = ("began", "expired", "task")

    def __init__(self, task: "asyncio.Task[Any]", began: float) -> None:
        self.task = task
        self.began = began
        self.expired = False


class Calls:
    """Calls one function, and counts: `durations` as `FunctionSnapshot.calls`, `answers` by status."""

    def __init__(self, function: Http) -> None:
        self.function = function
        self.answers: dict[int, int] = {}
        self.durations = [0] * 32
        self.durations_sum_s = 0.0
        self._in_flight: set[Call] = set()
        self._threads = None if function.is_async else ThreadPoolExecutor(function.concurrency_max, function.name)
        self._concurrency_max = function.concurrency_max
        self._busy_threads = 0
        self._more_places = 0
        self._watching: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def in_flight(self) -> int:
        """Calls that run, those left behind in threads included, and what else holds a place."""
        return max(len(self._in_flight), self._busy_threads) + self._more_places

    @property
    def full(self) -> bool:
        """Whether no call may begin."""
        return self.in_flight >= self._concurrency_max

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for what is left to do when a call has ended."""
        self._more_places += 1
        try:
            yield
        finally:
            self._more_places -= 1

    async def call(self, arguments: dict[str, Any]) -> object:
        """Calls the function. Raises Expired, and whatever it raises."""
        loop = self._loop = self._loop or asyncio.get_running_loop()  # which is a system call each time
        task = asyncio.current_task(loop)
        assert task is not None
        call = Call(task, loop.time())
        self._in_flight.add(call)
        if self._watching is None:
            self._watching = loop.call_later(LOOK_S, self._watch, loop)
        try:
            result = await self._run(loop, arguments)
        except BaseException:
            if not call.expired:
                raise
        finally:
            self._in_flight.remove(call)
            self._count(loop.time() - call.began)
        if call.expired:  # whatever the function made of its cancellation
            task.uncancel()
            raise Expired
        return result

    async def _run(self, loop: asyncio.AbstractEventLoop, arguments: dict[str, Any]) -> Any:
        if self._threads is None:
            return await self.function.handler(**arguments)
        self._busy_threads += 1
        work = partial(_without_stop, self.function.handler, arguments)
        running = loop.run_in_executor(self._threads, contextvars.copy_context().run, work)
        running.add_done_callback(self._thread_is_free)
        return await asyncio.shield(running)

    def _thread_is_free(self, ended: "asyncio.Future[Any]") -> None:
        self._busy_threads -= 1
        if not ended.cancelled():
            ended.exception()  # of a call left behind, nobody asks for it

    def _count(self, seconds: float) -> None:
        self.durations[min(int(max(0.0, seconds) / SHORT_S).bit_length(), len(self.durations) - 1)] += 1
        self.durations_sum_s += seconds

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self.function.timeout_s
        for call in self._in_flight:
            if call.began <= latest and not call.expired:
                call.expired = True
                call.task.cancel()
        self._watching = loop.call_later(LOOK_S, self._watch, loop) if self._in_flight else None

    def close(self) -> None:
        """Cancels what still runs, and waits for no thread."""
        if self._watching is not None:
            self._watching.cancel()
        for call in list(self._in_flight):
            call.task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _without_stop(handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return handler(**arguments)
    except (StopIteration, GeneratorExit) as error:  # no future takes the one, and the other ends those who wait for it
        raise RuntimeError(f"the function raised {type(error).__name__}") from error
