"""Compute: the same results from threads and from processes, and what processes bound."""

import asyncio
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streamproc.compute import Compute, ComputeOptions, open_compute
from streamproc.compute_worker import LENGTH
from streamproc.errors import ComputeLimit, ConfigError
from streamproc.settings import load

GB = 2**30


class Odd(Exception):
    """Cannot be pickled: it is made of other arguments than it keeps."""

    def __init__(self, number: int) -> None:
        super().__init__(f"odd {number}")
        self.lock = threading.Lock()


def add(left: int, right: int) -> int:
    return left + right


def fail(error: BaseException) -> None:
    raise error


def fail_oddly() -> None:
    raise Odd(7)


def use(size: int) -> int:
    return len(bytearray(size))


def crash() -> None:
    ctypes.string_at(0)


def hold_the_interpreter(seconds: float) -> None:
    """In C, without letting other threads run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def touch_and_sleep(file: str, seconds: float) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(seconds)


def talk() -> str:
    print("in the way?")
    os.write(1, b"in the way?")
    return sys.stdin.read()


def lock() -> object:
    return threading.Lock()


def environment() -> dict[str, str]:
    return dict(os.environ)


def workers() -> set[int]:
    """The pids of all worker processes of this one."""
    return {pid for pid in children(os.getpid()) if b"streamproc.compute_worker" in of_process(pid, "cmdline")}


def children(parent: int) -> set[int]:
    stats = {int(name): of_process(int(name), "stat") for name in os.listdir("/proc") if name.isdigit()}
    return {pid for pid, stat in stats.items() if stat.rpartition(b")")[2].split()[1:2] == [b"%d" % parent]}


def of_process(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""  # it has ended


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def options(**changes: Any) -> ComputeOptions:
    given: dict[str, Any] = {"runner": "process", "workers": 2, "timeout_s": 20.0}
    return ComputeOptions(**(given | changes))


@pytest.fixture(params=["thread", "process"])
async def compute(request: pytest.FixtureRequest) -> AsyncIterator[Compute]:
    async with open_compute(options(runner=request.param)) as opened:
        yield opened
    assert workers() == set()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("compute")]


@pytest.fixture
async def processes() -> AsyncIterator[Compute]:
    async with open_compute(options(timeout_s=3.0)) as opened:
        yield opened
    assert workers() == set()


async def test_what_a_function_returns_is_got(compute: Compute) -> None:
    assert await compute.run(add, 1, 2) == 3
    assert await asyncio.gather(*(compute.run(add, n, 1) for n in range(50))) == list(range(1, 51))


@pytest.mark.parametrize("size", [0, 1, 65_536, 20_000_000])
async def test_arguments_and_results_may_be_large(compute: Compute, size: int) -> None:
    assert await compute.run(bytes.upper, b"a" * size) == b"A" * size


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), ComputeLimit("own"), OSError(5, "io")], ids=repr)
async def test_what_a_function_raises_is_raised(compute: Compute, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await compute.run(fail, error)
    assert caught.value.args == error.args
    assert await compute.run(add, 1, 2) == 3


async def test_no_more_calls_run_at_a_time_than_there_are_workers(compute: Compute, tmp_path: Path) -> None:
    calls = [asyncio.ensure_future(compute.run(touch_and_sleep, str(tmp_path / f"{n}"), 0.2)) for n in range(3)]
    await until(lambda: len(os.listdir(tmp_path)) == 2)
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*calls)
    assert len(os.listdir(tmp_path)) == 3


async def test_the_place_of_a_cancelled_call_is_free_again(compute: Compute, tmp_path: Path) -> None:
    calls = [asyncio.ensure_future(compute.run(touch_and_sleep, str(tmp_path / f"{n}"), 0.4)) for n in range(2)]
    await until(lambda: len(os.listdir(tmp_path)) == 2)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert [await compute.run(add, n, n) for n in range(4)] == [0, 2, 4, 6]


async def test_what_cannot_be_sent_is_told(processes: Compute) -> None:
    for refused in (processes.run(lambda: 1), processes.run(add, threading.Lock(), 1)):  # type: ignore[arg-type]
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            await refused
    with pytest.raises(TypeError, match="pickle"):
        await processes.run(lock)
    with pytest.raises(RuntimeError, match=r"^Odd: odd 7$"):
        await processes.run(fail_oddly)
    assert len(workers()) == 2


async def test_what_functions_print_and_read_is_not_in_the_way(processes: Compute) -> None:
    assert await processes.run(talk) == ""
    assert await processes.run(add, 1, 2) == 3


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (time.sleep, (60,), r"a call took longer than 3 s"),
        (hold_the_interpreter, (60,), r"a call took longer than 3 s"),
        (use, (2 * GB,), r"a call needs more than 1,073,741,824 bytes of memory"),
        (crash, (), r"a call crashed its process: signal 11"),
        (os.abort, (), r"a call crashed its process: signal 6"),
        (os._exit, (3,), r"a call crashed its process: exit code 3"),
        (sys.exit, (4,), r"a call crashed its process: exit code 4"),
        (fail, (KeyboardInterrupt(),), r"a call crashed its process: .*"),
    ],
    ids=["slow", "stuck", "memory", "segfault", "abort", "exit", "sys.exit", "interrupt"],
)
async def test_a_call_over_its_limits_ends_alone(
    processes: Compute, function: Callable[..., Any], args: tuple[Any, ...], said: str
) -> None:
    await asyncio.gather(processes.run(add, 1, 1), processes.run(add, 1, 1))
    before = workers()
    other = asyncio.ensure_future(processes.run(time.sleep, 0.3))
    with pytest.raises(ComputeLimit, match=f"^{said}$"):
        await processes.run(function, *args)
    await other
    assert await asyncio.gather(*(processes.run(add, n, 1) for n in range(10))) == list(range(1, 11))
    after = workers()
    assert len(before & after) == 1
    assert len(after) <= 2


async def test_limits_hold_for_each_call_and_not_for_all_together(processes: Compute) -> None:
    for _ in range(4):
        assert await processes.run(use, GB // 3) == GB // 3
        await processes.run(time.sleep, 0.2)


async def test_time_does_not_run_for_an_idle_worker() -> None:
    async with open_compute(options(workers=1, timeout_s=0.2)) as compute:
        first = await compute.run(os.getpid)
        await asyncio.sleep(1.5)
        assert await compute.run(os.getpid) == first


async def test_an_idle_worker_that_was_killed_is_replaced(processes: Compute) -> None:
    killed = workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not workers() & killed)
    places: Any = processes
    await until(lambda: not any(worker.is_alive for worker in places._idle))
    assert await asyncio.gather(*(processes.run(add, n, 1) for n in range(4))) == [1, 2, 3, 4]


async def test_signals_that_stop_the_service_leave_workers_at_work(processes: Compute, tmp_path: Path) -> None:
    call = asyncio.ensure_future(processes.run(touch_and_sleep, str(tmp_path / "pid"), 0.2))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        os.kill(int((tmp_path / "pid").read_text()), signal_number)
    await call


async def test_workers_do_not_know_the_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMPROC_STORE__PASSWORD", "s3cret")
    async with open_compute(options(workers=1)) as compute:
        assert "s3cret" not in str(await compute.run(environment))


async def test_calls_under_way_end_before_it_closes(tmp_path: Path) -> None:
    async with open_compute(options()) as compute:
        call = asyncio.ensure_future(compute.run(touch_and_sleep, str(tmp_path / "pid"), 0.2))
        await until(lambda: (tmp_path / "pid").exists())
    assert call.done()
    await call
    with pytest.raises(RuntimeError, match="closed"):
        await compute.run(add, 1, 2)


async def test_a_worker_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    with pytest.raises(ConfigError, match=r"^compute\.memory_bytes_max: a worker does not start \(exit code 1\)"):
        async with open_compute(options()):
            pass
    assert workers() == set()


async def test_zero_workers_means_one_per_cpu() -> None:
    async with open_compute(options(workers=0)):
        assert len(workers()) == os.cpu_count()


def test_settings() -> None:
    assert load(None, {"STREAMPROC_COMPUTE__RUNNER": "process"}).settings.compute.timeout_s == 30
    with pytest.raises(ConfigError, match=r"^compute\.memory_bytes_max: expected"):
        load(None, {"STREAMPROC_COMPUTE__MEMORY_BYTES_MAX": "1000"})


PARENT = """
import asyncio, sys, time
from streamproc.compute import ComputeOptions, open_compute
async def main():
    async with open_compute(ComputeOptions(runner="process", workers=2, timeout_s=60)) as compute:
        await compute.run(time.sleep, 0)
        asyncio.ensure_future(compute.run(time.sleep, 50))
        await asyncio.sleep(0.2)
        print("ready", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_workers_end_with_a_parent_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"ready\n"
    pids = children(parent.pid)
    assert len(pids) == 2
    parent.kill()
    await parent.wait()
    await until(lambda: not any(of_process(pid, "cmdline") for pid in pids))


def test_a_call_that_nobody_kills_ends_after_its_time_limit() -> None:
    command = [sys.executable, "-m", "streamproc.compute_worker", str(GB), "0.2"]
    call = pickle.dumps((hold_the_interpreter, (60,)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.write(LENGTH.pack(len(call)) + call)
        worker.stdin.flush()
        assert worker.wait(10) == -signal.SIGALRM
