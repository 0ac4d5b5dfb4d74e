"""Runs functions that compute off the event loop: section `[compute]` of the settings.

Threads cost least. Worker processes also bound what a function may take, where its input is hostile: memory, time, and
what happens when it crashes.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Literal, Protocol, TypeVar, TypeVarTuple, cast

import msgspec
from msgspec import Meta

from streamproc.compute_worker import LENGTH, MEMORY, RAISED
from streamproc.errors import ComputeLimit, ConfigError

START_S = 30.0
"""What a worker gets to start; a call's time begins after that."""
END_S = 1.0
"""What a worker gets to end that has closed its pipe."""
KEPT_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT"})
"""What workers get of the environment, which may hold secrets."""

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class ComputeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[compute]`. The last two are for processes."""

    runner: Annotated[Literal["thread", "process"], Meta(description="process: bounds memory and time")] = "thread"
    workers: Annotated[int, Meta(ge=0, le=1_000, description="calls at a time; 0: one per CPU")] = 0
    memory_bytes_max: Annotated[int, Meta(ge=2**26, le=2**46, description="address space of a worker")] = 2**30
    timeout_s: Annotated[float, Meta(ge=0.01, le=3_600, description="a worker that takes longer is killed")] = 30.0


class Compute(Protocol):
    """Runs functions that compute."""

    async def run(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        """What the function returns or raises. It is one of a module, and all of it can be pickled.

        Raises ComputeLimit where it takes too much memory or time, or crashes. When the caller is cancelled, its place
        is only given to the next call once the function has ended.
        """


@asynccontextmanager
async def open_compute(options: ComputeOptions) -> AsyncIterator[Compute]:
    """Opens it; no thread and no process outlives it. Raises ConfigError where a worker cannot start."""
    places = options.workers or os.cpu_count() or 1
    if options.runner == "thread":
        pool = ThreadPoolExecutor(places, thread_name_prefix="compute")
        try:
            yield _Threads(pool)
        finally:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        return
    processes = _Processes(options, places)
    try:
        await processes.start()
        yield processes
    finally:
        await processes.close()


class _Threads:
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    async def run(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)


class _Processes:
    """A place per worker; a worker that is no longer fit for use is started again by the next call that needs it."""

    def __init__(self, options: ComputeOptions, places: int) -> None:
        self._options = options
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._idle: list[_Worker] = []
        self._closed = False

    async def start(self) -> None:
        """Starts all workers. Raises ConfigError where one cannot start."""
        started = await asyncio.gather(*(_start(self._options) for _ in range(self._places)), return_exceptions=True)
        self._idle = [worker for worker in started if isinstance(worker, _Worker)]
        for failure in started:
            if isinstance(failure, OSError):
                raise ConfigError(f"compute.memory_bytes_max: {failure}: is it enough?")
            if isinstance(failure, BaseException):
                raise failure

    async def run(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        """See the protocol."""
        call = pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)
        async with self._free:
            worker = await self._take()
            try:
                answer = await worker.ask(call)
            finally:
                if worker.is_ready:
                    self._idle.append(worker)
                else:
                    await worker.kill()
        return cast(R, _outcome(answer, self._options))

    async def _take(self) -> "_Worker":
        if self._closed:
            raise RuntimeError("compute is closed")
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
        return await _start(self._options)

    async def close(self) -> None:
        """Waits for calls under way, and ends all workers."""
        self._closed = True
        try:
            for _ in range(self._places):
                await self._free.acquire()
        finally:
            await asyncio.gather(*(worker.kill() for worker in self._idle))
            for _ in range(self._places):
                self._free.release()


class _Worker:
    """A worker process; `is_ready` for a call unless it was left in the middle of one."""

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._calls, self._answers = process.stdin, process.stdout
        self._timeout_s = timeout_s
        self.is_ready = False

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, call: bytes) -> tuple[str, Any]:
        """Sends a call and waits for its answer. Raises ComputeLimit where there is none."""
        self.is_ready = False
        try:
            async with asyncio.timeout(self._timeout_s):
                self._calls.writelines((LENGTH.pack(len(call)), call))
                await self._calls.drain()
                kind, value = pickle.loads(await self.read())  # noqa: S301  (of a process of one's own)
        except TimeoutError:
            raise ComputeLimit(f"a call took longer than {self._timeout_s:g} s") from None
        except (OSError, asyncio.IncompleteReadError):
            raise ComputeLimit(f"a call crashed its process: {await self.ending()}") from None
        self.is_ready = kind != MEMORY
        return kind, value

    async def read(self) -> bytes:
        """The next message. Raises IncompleteReadError when the process ends."""
        (size,) = LENGTH.unpack(await self._answers.readexactly(LENGTH.size))
        return await self._answers.readexactly(size)

    async def ending(self) -> str:
        """How the process ended, which no longer answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._process.wait()
        await self.kill()
        code = self._process.returncode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def kill(self) -> None:
        """Ends the process, unless it has ended."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._calls.close()


async def _start(options: ComputeOptions) -> _Worker:
    """Raises OSError where a worker does not start."""
    limits = str(options.memory_bytes_max), str(options.timeout_s)
    kept = {name: os.environ[name] for name in KEPT_VARIABLES & os.environ.keys()}
    worker = _Worker(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "streamproc.compute_worker", *limits),
            env=kept | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # what is typed at a terminal is for the parent
        ),
        options.timeout_s,
    )
    try:
        async with asyncio.timeout(START_S):
            await worker.read()
    except asyncio.IncompleteReadError:
        raise OSError(f"a worker does not start ({await worker.ending()})") from None
    except BaseException:
        await worker.kill()
        raise
    return worker


def _outcome(answer: tuple[str, Any], options: ComputeOptions) -> object:
    kind, value = answer
    if kind == MEMORY:
        raise ComputeLimit(f"a call needs more than {options.memory_bytes_max:,} bytes of memory")
    if kind == RAISED:
        raise value
    return value
