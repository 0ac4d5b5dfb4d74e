"""What a process uses, with all its threads and those it started: CPU time and memory, as the kernel counts them."""

import os
import time
from contextlib import suppress
from pathlib import Path

PROCESS_CPU_CLOCK = 2
"""CPUCLOCK_SCHED: glibc makes the id of a process' CPU clock of its inverted id and this (clock_getcpuclockid(3))."""


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, task.read_text().split())
    return [pid, *(below for child in children for below in processes(child))]


def cpu_time_s(pid: int) -> float:
    """User and system time of a process and those below it, of all threads, in seconds."""
    total = 0.0
    for one in processes(pid):
        with suppress(OSError):  # it has just ended
            total += time.clock_gettime(~one << 3 | PROCESS_CPU_CLOCK)
    return total


def memory_mb(pid: int) -> float:
    """Resident memory of a process and those below it, in MiB."""
    total = 0
    for one in processes(pid):
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 1_048_576


def waited_for_cpu_s() -> float:
    """Seconds that this thread was ready to run and had no CPU (proc(5), schedstat); 0 where the kernel keeps none."""
    with suppress(OSError, IndexError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0
