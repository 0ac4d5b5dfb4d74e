"""An event loop in virtual time whose connections stay in memory, and the processes that run in it.

A seed replays step by step, so nothing here depends on a hash, an address or the machine's clock.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter
from zlib import crc32

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import BrokerMetadata, TopicPartition

from streamproc import model
from streamproc.testing import EPOCH
from streamproc.virtualtime import VirtualTimeLoop
from tests.simulation.instead import instead

if TYPE_CHECKING:
    from tests.simulation.wire.net import Network

PROCESS: "contextvars.ContextVar[Process | None]" = contextvars.ContextVar("process", default=None)
TIMED = (
    "client",
    "cluster",
    "conn",
    "consumer.fetcher",
    "consumer.group_coordinator",
    "consumer.subscription_state",
    "producer.message_accumulator",
    "protocol.message",
    "record.legacy_records",
)
"""Modules of aiokafka that read a clock."""
RANDOM = ("client", "conn", "consumer.fetcher", "partitioner")
"""Modules of aiokafka that draw."""


class Process:
    """What runs in one operating-system process: the tasks it started, and theirs. Connections belong to it."""

    def __init__(self, loop: "WireLoop", name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self._loop = loop
        self._tasks: list[_Task] = []
        self._held: list[asyncio.Handle] = []
        self._context = contextvars.Context()
        self._context.run(PROCESS.set, self)

    def start(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs a coroutine in the process."""
        return self._loop.create_task(main, context=self._context.copy())

    def freeze(self) -> None:
        """Stops it as SIGSTOP does, or a blocked loop: its timers and what it is sent wait until it is thawed."""
        self.frozen = True

    def thaw(self) -> None:
        """Lets it go on, with all that has become due meanwhile."""
        self.frozen = False
        self._loop._ready.extend(self._held)  # type: ignore[attr-defined]
        self._held.clear()

    def kill(self) -> None:
        """Ends it as SIGKILL does: nothing of it runs again, and its connections end."""
        self.dead = True
        self._held.clear()
        if self._loop.network is not None:
            self._loop.network.hang_up(self)

    async def bury(self) -> None:
        """Frees what a dead process holds: its coroutines end where they stand, unheard."""
        while left := [task for task in self._tasks if not task.done() and not task.buried]:
            for task in left:
                task.buried = True
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                for _ in range(20):  # as often as something in it waits once more
                    with suppress(BaseException):
                        self._context.copy().run(task.get_coro().close)
                        break

    def takes(self, handle: asyncio.Handle) -> bool:
        """Returns True if the process runs; keeps the callback while it is frozen."""
        if self.frozen and not self.dead:
            self._held.append(handle)
        return not (self.dead or self.frozen)


class WireLoop(VirtualTimeLoop):
    """See the module's docstring. `after_step` is called after each step and may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Network | None = None
        self.processes: list[Process] = []
        self.after_step: Callable[[], None] | None = None
        self.numbers = itertools.count()
        self.set_task_factory(_make_task)  # type: ignore[arg-type]

    def process(self, name: str) -> Process:
        """Returns a new process."""
        process = Process(self, name)
        self.processes.append(process)
        return process

    def now(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.elapsed_s

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connects to a node of the network in memory. Raises OSError."""
        assert self.network is not None
        protocol = protocol_factory()
        return await self.network.connect(protocol, host, port), protocol

    def create_future(self) -> "asyncio.Future[Any]":
        return _Future(loop=self)

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self._check_closed()  # type: ignore[attr-defined]
        process = PROCESS.get() if context is None else context.get(PROCESS)
        kind = asyncio.Handle if process is None else _Held
        handle = kind(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        process = PROCESS.get() if context is None else context.get(PROCESS)
        kind = asyncio.TimerHandle if process is None else _HeldTimer
        timer = kind(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # there is no public hook for a step of the loop
        if self.after_step is not None:
            self.after_step()

    def wind_up(self) -> None:
        """Ends what is still running, and closes."""
        self.after_step = None
        self.set_exception_handler(lambda loop, context: None)
        for process in self.processes:
            process.thaw()
        for _ in range(50):
            left = [task for task in asyncio.all_tasks(self) if not (task.done() or _is_dead(task))]
            if not left:
                break
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left, timeout=1.0))
        with catch_warnings():
            simplefilter("ignore")
            for process in self.processes:
                if process.dead:
                    self.run_until_complete(process.bury())
        self.close()


class _Future(asyncio.Future[Any]):
    """A future that a set holds in the order of the loop's steps."""

    number: int

    def __hash__(self) -> int:
        try:
            return self.number
        except AttributeError:
            loop = self.get_loop()
            assert isinstance(loop, WireLoop)
            self.number = next(loop.numbers)
            return self.number


class _Task(asyncio.Task[Any]):
    """A task that a set holds in the order of the loop's steps."""

    process: Process | None = None
    buried = False
    __hash__ = _Future.__hash__


class _Held(asyncio.Handle):
    """A callback of a process, which may have to wait."""

    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or process.takes(self):
            super()._run()


class _HeldTimer(_Held, asyncio.TimerHandle):
    """A timer of a process, which may have to wait."""

    __slots__ = ()


def _make_task(loop: WireLoop, coro: Any, context: contextvars.Context | None = None) -> _Task:
    task = _Task(coro, loop=loop, context=context)
    task.process = PROCESS.get() if context is None else context.get(PROCESS)
    if task.process is not None:
        task.process._tasks.append(task)
    return task


def _is_dead(task: asyncio.Task[Any]) -> bool:
    process = getattr(task, "process", None)
    return process is not None and process.dead


@contextmanager
def virtual(loop: WireLoop, rng: random.Random, *modules: ModuleType) -> Iterator[None]:
    """Gives aiokafka, and `modules`, the loop's clock in place of `time`, and aiokafka a seeded `random`.

    Sets of its topics, partitions and brokers are put in an order that does not change between processes.
    """
    clock = SimpleNamespace(time=loop.now, monotonic=loop.now, perf_counter=loop.now)
    sound = BatchBuilder.append

    def append(self: Any, *, timestamp: int | None, **record: Any) -> Any:
        return sound(self, timestamp=int(loop.now() * 1000) if timestamp is None else timestamp, **record)

    with ExitStack() as stack:
        for name in TIMED:
            stack.enter_context(instead(import_module(f"aiokafka.{name}"), "time", clock))
        for module in modules:
            stack.enter_context(instead(module, "time", clock))
        for name in RANDOM:
            stack.enter_context(instead(import_module(f"aiokafka.{name}"), "random", rng))
        stack.enter_context(instead(BatchBuilder, "append", append))
        for kind in (TopicPartition, model.TopicPartition):  # alike, as each may be looked up by the other
            stack.enter_context(_hashed(kind, lambda one: crc32(one[0].encode()) * 31 + one[1]))
        stack.enter_context(_hashed(BrokerMetadata, lambda one: one[0] if isinstance(one[0], int) else -1))
        yield


@contextmanager
def _hashed(kind: type, by: Callable[[Any], int]) -> Iterator[None]:
    kind.__hash__ = by  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del kind.__hash__
