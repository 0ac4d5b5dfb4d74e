"""Worker processes with one fate: the parent only watches. When one ends, all are told to drain and end."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from streamproc.ending import FAILED, GRACE_EXCEEDED, SIGNALS, USAGE

log = logging.getLogger("streamproc")

END_S = 0.9
"""What all workers together are given beyond their grace before they are killed, in seconds."""
CODES = (FAILED, USAGE, GRACE_EXCEEDED)
"""What a worker ends with that has said why."""
UNHARMED = (0, -signal.SIGTERM)
"""One may be told to end before it listens."""


def supervise(count: int, work: Callable[[int, Connection], int], grace_s: float) -> int:
    """Runs `work(number, parent)` in `count` processes; returns the exit code of the first that failed, else 0.

    SIGTERM and SIGINT are passed on as SIGTERM; a second one kills. `parent` becomes readable when the parent is gone.
    A worker that was killed counts as failed, one that was killed for its time as one that exceeded its grace. Workers
    are forked, before anything here has a thread or an event loop, so `work` need not be importable.
    """
    context = multiprocessing.get_context("fork")
    watched, held = context.Pipe(duplex=False)
    workers = [context.Process(target=_worker, args=(work, number, watched, held)) for number in range(count)]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal while they are forked waits until all can be told
    for worker in workers:
        worker.start()
    watched.close()
    signals = _Signals(workers)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    wait([*(worker.sentinel for worker in workers), signals.reader])
    deadline = time.monotonic() + grace_s + END_S
    first = sorted(workers, key=lambda worker: worker.is_alive())
    gone = [worker for worker in first if not worker.is_alive()]
    _tell_why(gone)
    signals.tell()
    late = _end(workers, deadline, grace_s)
    _tell_why([worker for worker in workers if worker not in gone and worker not in late])
    if len(signals.came) > 1:
        return 128 + signals.came[1]
    codes = [GRACE_EXCEEDED if worker in late else worker.exitcode or 0 for worker in first]
    failed = [code for code in codes if code not in UNHARMED]
    return next((code if _has_said_why(code) else FAILED for code in failed), 0)


def _has_said_why(code: int) -> bool:
    return code in CODES or code > 128


def _tell_why(ended: Sequence[BaseProcess]) -> None:
    """Names workers that had no time to say why they end."""
    for worker in ended:
        code = worker.exitcode or 0
        if code < 0 and code not in UNHARMED:
            log.error("worker process %s was killed by %s", worker.pid, signal.Signals(-code).name)
        elif code > 0 and not _has_said_why(code):
            log.error("worker process %s ended itself with exit code %d", worker.pid, code)


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


class _Signals:
    """The signals that came; the first is passed on, unless the workers were told before. `reader` tells of it."""

    def __init__(self, workers: Sequence[BaseProcess]) -> None:
        self.came: list[int] = []
        self.reader, self._writer = os.pipe()
        self._workers = workers
        self._told = False
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def tell(self) -> None:
        """Tells the workers to end, once: to be told twice would end them at once."""
        told, self._told = self._told, True
        if not told:
            self._send(signal.SIGTERM)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.came.append(number)
        if len(self.came) > 1:
            self._send(signal.SIGKILL)
        self.tell()
        os.write(self._writer, b"\0")

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, number)


def _end(workers: Sequence[BaseProcess], deadline: float, grace_s: float) -> Sequence[BaseProcess]:
    """Waits for all, kills those that are late, and returns them."""
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    late = [worker for worker in workers if worker.is_alive()]
    for worker in late:
        log.error("worker process %s did not end by itself in stream.grace_s = %g and is killed", worker.pid, grace_s)
        worker.kill()
        worker.join()
    return late
