"""Worker processes with one fate: the parent only watches. When one ends, all are told to drain and end."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

FAILED = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT)
END_S = 10.0
"""What a worker is given beyond its grace before it is killed, in seconds."""


def supervise(count: int, work: Callable[[int, Connection], int], grace_s: float) -> int:
    """Runs `work(number, parent)` in `count` processes; returns the exit code of the first that failed, else 0.

    SIGTERM and SIGINT are passed on; a second one kills. `parent` becomes readable when the parent is gone. Workers
    are forked, before anything here has a thread or an event loop, so `work` need not be importable.
    """
    context = multiprocessing.get_context("fork")
    watched, held = context.Pipe(duplex=False)
    workers = [context.Process(target=_worker, args=(work, number, watched, held)) for number in range(count)]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal while they are forked waits until all can be told
    for worker in workers:
        worker.start()
    watched.close()
    told = _pass_on_signals(workers)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    wait([worker.sentinel for worker in workers])
    first = sorted(workers, key=lambda worker: worker.is_alive())
    if not told:
        os.kill(os.getpid(), signal.SIGTERM)
    _end(workers, grace_s)
    codes = [worker.exitcode or 0 for worker in first]
    failed = [code for code in codes if code not in (0, -signal.SIGTERM)]  # one may be told before it listens
    return next((code if code > 0 else FAILED for code in failed), 0)


def _worker(work: Callable[[int, Connection], int], number: int, watched: Connection, held: Connection) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    held.close()
    os._exit(_code_of(work, number, watched))


def _code_of(work: Callable[[int, Connection], int], number: int, watched: Connection) -> int:
    try:
        return work(number, watched)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else FAILED
    except BaseException:
        import traceback

        traceback.print_exc()
        return FAILED


def _pass_on_signals(workers: Sequence[BaseProcess]) -> list[int]:
    told: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for worker in workers:
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL if told else signal.SIGTERM)
        told.append(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    return told


def _end(workers: Sequence[BaseProcess], grace_s: float) -> None:
    for worker in workers:
        worker.join(grace_s + END_S)
        if worker.is_alive():
            worker.kill()
            worker.join()
