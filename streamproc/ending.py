"""The end of a process: begun once, and over by one deadline, whatever holds on to it.

A signal, an error that nothing can go on after, or the end of the parent begins it. A thread of its own watches the
deadline, so that neither a blocked event loop nor a call that never returns outlasts it. What has not ended by then is
left behind: records that are not finished are delivered again.
"""

import asyncio
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from types import FrameType

from streamproc.errors import ConfigError, StreamprocError

log = logging.getLogger("streamproc")

OK, FAILED, USAGE, GRACE_EXCEEDED = 0, 1, 2, 4
SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLOSE_S = 0.4
"""What follows the grace: to commit, to leave the group, to close. With the two below it is well within a second."""
ASK_S = 0.1
"""An event loop that does not answer for so long at the deadline is blocked."""
SAY_S = 0.2
"""The longest that the last line of the log may take: nobody may be reading it."""


def exit_code(error: BaseException) -> int:
    """Returns 2 for what is written wrongly and would fail again, 1 for what may pass, so that one restarts that."""
    return USAGE if isinstance(error, ConfigError) else FAILED


class Ending:
    """The ending of this process; `stop` is set in the event loop when it begins.

    `doing` says in words for the log what has not ended. Call `listen` in the main thread, then `attach` in the loop;
    without `listen` nobody watches the deadline, and whoever has `stop` may set it.
    """

    def __init__(self, parent: Connection | None = None, *, stop: asyncio.Event | None = None) -> None:
        self.stop = stop or asyncio.Event()
        self.doing: Callable[[], str] = _nothing_known
        self._parent = parent
        self._grace_s = 0.0
        self._code = OK  # of an ending that lasts too long
        self._told = False
        self._errors: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interrupt: asyncio.Timeout | None = None
        self._reader = self._writer = -1

    def listen(self) -> None:
        """Takes SIGTERM and SIGINT from now on; a second one ends the process at once.

        A worker leaves SIGINT to its parent, since a terminal sends it to both.
        """
        self._reader, self._writer = os.pipe()
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        if self._parent is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch, name="ending", daemon=True).start()

    def attach(self) -> None:
        """Sets `stop` in the running event loop from now on; at once if the ending has begun."""
        self._loop = asyncio.get_running_loop()
        if self._told:
            self._stop_now()

    def serving(self, grace_s: float) -> None:
        """Gives calls `grace_s` seconds to end. Before this there are none, and the ending does not wait."""
        self._grace_s, self._code = grace_s, GRACE_EXCEEDED

    def begin(self) -> None:
        """Begins the ending, unless it has begun. Called in the event loop."""
        if not self.stop.is_set():
            if self._writer >= 0:
                os.write(self._writer, b"\0")
            self._stop_now()

    def fail(self, error: BaseException) -> int:
        """Begins the ending because of an error, and logs that once; returns the exit code, that of the first one."""
        if error not in self._errors:
            self._errors.append(error)
            if isinstance(error, StreamprocError):
                log.error("%s", error)
            else:
                log.error("the process failed: %s", type(error).__name__, exc_info=error)
        self.begin()
        return exit_code(self._errors[0])

    def leave(self, code: int) -> None:
        """Ends the process without waiting for threads and tasks that go on."""
        self._leave(code, lambda: None)

    def _leave(self, code: int, say: Callable[[], None]) -> None:
        def last() -> None:
            say()
            logging.shutdown()

        _within(SAY_S, last)
        os._exit(code)

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[None]:
        """Cuts the block short when the ending begins; what was opened in it is closed by whoever opened it."""
        try:
            async with asyncio.timeout(0 if self.stop.is_set() else None) as interrupt:
                self._interrupt = interrupt
                yield
        except TimeoutError:
            if not interrupt.expired():
                raise
        finally:
            self._interrupt = None

    def _stop_now(self) -> None:
        self._told = True
        self.stop.set()
        if self._interrupt is not None and self._loop is not None and not self._interrupt.expired():
            self._interrupt.reschedule(self._loop.time())
            self._interrupt = None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        os.write(self._writer, bytes([number]))  # the rest is the thread's: nothing else is safe in the midst of a line

    def _watch(self) -> None:
        sources = [self._reader] if self._parent is None else [self._reader, self._parent.fileno()]
        select.select(sources, [], [])
        signals = self._read()
        self._told = True
        deadline = time.monotonic() + self._grace_s + CLOSE_S
        if signals:
            _within(SAY_S, lambda: log.info("%s: stopping", signal.Signals(signals[0]).name))
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._stop_now)
        while len(signals) < 2 and (left_s := deadline - time.monotonic()) > 0:
            select.select([self._reader], [], [], left_s)
            signals += self._read()
        if len(signals) > 1:
            os._exit(128 + signals[1])
        self._give_up()

    def _read(self) -> list[int]:
        """Returns the signals that came; nothing when it was the event loop, or the parent, that began the ending."""
        is_there, _, _ = select.select([self._reader], [], [], 0)
        return [number for number in os.read(self._reader, 16) if number] if is_there else []

    def _give_up(self) -> None:
        code = exit_code(self._errors[0]) if self._errors else self._code
        over = f"stream.grace_s = {self._grace_s:g} is over" if code else "nothing has begun yet"
        told = f"{over}: the process ends now and leaves behind {self._what()}"
        self._leave(code, lambda: (log.error if code else log.info)("%s", told))

    def _what(self) -> str:
        if self._loop is not None and not self._loop.is_closed():
            answered = threading.Event()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(answered.set)
                if not answered.wait(ASK_S):
                    return f"the event loop, blocked {_where()}"
        with suppress(Exception):  # the loop goes on meanwhile, and may change what is being read
            return "; ".join(filter(None, (self.doing(), _threads())))
        return "a part of it"


def _nothing_known() -> str:
    return ""


def _where() -> str:
    """Returns where the main thread is, in the innermost function that is not of Python or a library.

    Reads no file: a thread that never waits lets this one have the interpreter only for moments.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    stack = [(one.f_code, line) for one, line in traceback.walk_stack(frame)]
    code, line = next((one for one in stack if f"{os.sep}lib{os.sep}python" not in one[0].co_filename), stack[0])
    return f"at {code.co_filename}:{line} in {code.co_name}"


def _threads() -> str:
    names = [one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    return f"threads {', '.join(sorted(names))}" if names else ""


def _within(seconds: float, step: Callable[[], object]) -> None:
    """Does something that may block for ever, such as a line of the log, for so long."""
    doing = threading.Thread(target=step, daemon=True)
    doing.start()
    doing.join(seconds)
