"""What a worker process of `compute` does: one call at a time, within limits that the kernel keeps.

It ends with its parent, whose end closes the pipe that calls come by.
"""

import os
import pickle
import resource
import signal
import struct
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

LENGTH = struct.Struct(">Q")
"""What each message begins with; the rest is a pickle."""
RETURNED, RAISED, MEMORY = "returned", "raised", "memory"
GRACE_S = 1.0
"""Beyond its time limit, a call ends the process by itself: its parent may be gone."""


def main() -> None:
    """Works until the parent closes the pipe or is gone; the arguments are bytes of address space and seconds."""
    memory_bytes_max, timeout_s = int(sys.argv[1]), float(sys.argv[2])
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)  # they are for the parent, who lets calls end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    incoming, outgoing = _pipes()
    calls: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(incoming, calls), daemon=True).start()
    _write(outgoing, b"")
    while True:
        call = calls.get()
        signal.setitimer(signal.ITIMER_REAL, timeout_s + GRACE_S)
        answer = _answer(call)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(outgoing, answer)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Both pipes, out of the way of what functions read and print."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return pipes


def _read(incoming: BinaryIO, calls: SimpleQueue[bytes]) -> None:
    try:
        while head := incoming.read(LENGTH.size):
            calls.put(incoming.read(*LENGTH.unpack(head)))
    finally:
        os._exit(0)  # whatever the main thread does


def _write(outgoing: BinaryIO, message: bytes) -> None:
    outgoing.write(LENGTH.pack(len(message)))
    outgoing.write(message)
    outgoing.flush()


def _answer(call: bytes) -> bytes:
    try:
        function, args = pickle.loads(call)  # noqa: S301  (of the parent)
        return pickle.dumps((RETURNED, function(*args)), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps((MEMORY, None))
    except Exception as error:
        return pickle.dumps((RAISED, _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error itself, if the parent can read it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
