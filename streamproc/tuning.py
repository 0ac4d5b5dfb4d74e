"""Settings of the interpreter and the allocator for a process that reads records for ever."""

import ctypes
import gc
import resource
from contextlib import suppress

COLLECT_AFTER = 50_000
"""Allocations between two runs of the garbage collector; batches of records are garbage of one generation."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 67_108_864
LARGEST_KEPT_BYTES = 33_554_432
"""The most that glibc takes (mallopt(3))."""


def tune() -> None:
    """To be called once, when all that lives as long as the process is built."""
    _collect_rarely()
    _keep_freed_memory()
    _open_many_files()


def _collect_rarely() -> None:
    """What was built so far stays; records die young, so a rare look is enough."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def _keep_freed_memory() -> None:
    """Tells glibc to use the memory of a fetch for the next one.

    By default it gives buffers of this size back to the system and takes new ones, whose pages are then faulted in one
    by one. Another C library is left as it is.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _open_many_files() -> None:
    """A connection is a file, and the usual limit of 1,024 stands only for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a system whose own limit is lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
