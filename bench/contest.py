"""Contenders in turns: each runs in a process of its own on the same topic, and is measured from outside.

A contender is a program of the form that peers/README.md describes. CPU time is that of the process with its threads
and children, user and system, between its two reports; so all are measured alike, whatever they are written in.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.brokers import say
from bench.usage import cpu_time_s, memory_mb

ROOT = Path(__file__).parents[1]
TIME_LIMIT_S = 120.0
LOOK_S = 0.1
STOP_S = 5.0
ENDLESS = 10**15


@dataclass(frozen=True, slots=True)
class Contender:
    """A program and what it is to do. `rate` is about how many records a second it reads, 0 if not known.

    `labels` say what is special about the course it is on; contenders are compared with the bare loop of equal labels.
    """

    name: str
    title: str
    mode: str
    command: Sequence[str]
    folder: Path
    rate: float = 0.0
    guarantee: str = "at least once"
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """What contenders read: a topic that holds `records`, for about `seconds` a round.

    The first `warmup_share` of what each reads is not counted.
    """

    bootstrap: str
    topic: str
    records: int
    seconds: float
    warmup_share: float = 0.1

    def records_for(self, contender: Contender) -> int:
        """How many records a contender reads, so that rounds last alike."""
        return min(self.records, int(contender.rate * self.seconds)) if contender.rate else self.records


@dataclass(slots=True)
class Results:
    """Figures of each round by contender; `left_out` says who did not take part, and why."""

    contenders: dict[str, Contender] = field(default_factory=dict)
    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


Once = Callable[[Contender, Course], dict[str, Any]]


def play(
    contenders: Sequence[Contender], course: Course, *, rounds: int, results: Results, once: Once | None = None
) -> None:
    """Runs each contender in each round, adding to `results`; who fails is left out of the rounds that follow.

    `once` runs one round of one, as `run_once` does, which is taken when not given.

    Those with a known rate, the peers, take part in every other round.
    """
    results.contenders.update({one.name: one for one in contenders})
    for number in range(rounds):
        for contender in contenders:
            if contender.name in results.left_out or (contender.rate and number % 2):
                continue
            say(f"round {number + 1} of {rounds}: {contender.title}")
            try:
                figures = (once or run_once)(contender, course)
            except ContenderError as error:
                say(f"  {contender.title} is left out: {error}")
                results.left_out[contender.name] = str(error)
            else:
                results.rounds.setdefault(contender.name, []).append(figures)


class ContenderError(Exception):
    """A contender ended before it was done, or ran too long."""


def run_once(contender: Contender, course: Course) -> dict[str, Any]:
    """One round of one contender.

    Returns `cpu_us` per record, `records_per_s`, `rss_mb` (peak), `rss_first_half_mb`, `rss_second_half_mb`,
    `rss_series_mb` (ten a second), `start_s` (process start to the end of the warm-up), and what the contender says of
    itself. Raises ContenderError.
    """
    count = course.records_for(contender)
    with measured(contender, course, count=count, warmup=max(1, int(count * course.warmup_share))) as measurement:
        return measurement.take()


def idle(contender: Contender, course: Course, seconds: float) -> float:
    """Resident memory in MiB of a contender that has read one record and for `seconds` nothing more."""
    with measured(contender, course, count=2, warmup=1) as measurement:
        return measurement.take_idle(seconds)


def first_record_s(contender: Contender, course: Course) -> float:
    """Seconds from the start of a contender's process to the end of its first record, with the join of its group."""
    with measured(contender, course, count=ENDLESS, warmup=1) as measurement:
        return measurement.take_start()


@contextmanager
def running(contender: Contender, course: Course) -> Iterator[None]:
    """A contender that reads for as long as the block lasts. Raises ContenderError when it cannot be started."""
    with measured(contender, course, count=ENDLESS, warmup=ENDLESS):
        yield


@contextmanager
def measured(contender: Contender, course: Course, *, count: int, warmup: int) -> Iterator["Measurement"]:
    """A contender that has been started to read so many records."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "report"
        os.mkfifo(pipe)
        options = {
            "bootstrap": course.bootstrap,
            "topic": course.topic,
            "group": f"bench-{contender.name}-{os.urandom(4).hex()}",
            "count": str(count),
            "warmup": str(warmup),
            "mode": contender.mode,
            "report": str(pipe),
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        with _started([*contender.command, *arguments], contender.folder, Path(folder) / "log") as process:
            measurement = Measurement(process, pipe, Path(folder) / "log")
            try:
                yield measurement
            finally:
                measurement.close()


@contextmanager
def _started(command: Sequence[str], folder: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # for bench.report
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with suppress(ProcessLookupError):  # also children that outlived it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Measurement:
    """A contender that runs, and what it uses."""

    def __init__(self, process: "subprocess.Popen[bytes]", pipe: Path, log: Path) -> None:
        self._process = process
        self._reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._log = log
        self._began = time.perf_counter()
        self._rss_mb: list[float] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, seconds: float) -> None:
        """Waits until it has ended by itself. Raises subprocess.TimeoutExpired."""
        self._process.wait(seconds)

    def take(self) -> dict[str, Any]:
        """Waits for the two reports."""
        reports = self._reports()
        warm = _first(reports, "warm")
        cpu_s, at = cpu_time_s(self._process.pid), time.perf_counter()
        self._rss_mb.clear()
        done = _first(reports, "done")
        cpu_s, seconds = cpu_time_s(self._process.pid) - cpu_s, time.perf_counter() - at
        counted = done["records"] - warm["records"]
        if counted <= 0:
            raise ContenderError(f"it reported {warm['records']} records, then {done['records']}")
        half = len(self._rss_mb) // 2
        said = {name: value for name, value in done.items() if name not in ("event", "records")}
        return {
            **said,
            "records": counted,
            "cpu_us": cpu_s / counted * 1e6,
            "records_per_s": counted / seconds,
            "rss_mb": max(self._rss_mb, default=memory_mb(self._process.pid)),
            "rss_first_half_mb": max(self._rss_mb[:half], default=0.0),
            "rss_second_half_mb": max(self._rss_mb[half:], default=0.0),
            "rss_series_mb": [round(value, 1) for value in self._rss_mb],
            "start_s": at - self._began,
        }

    def take_start(self) -> float:
        """Waits for the end of the warm-up; the seconds it took."""
        _first(self._reports(), "warm")
        return time.perf_counter() - self._began

    def take_idle(self, seconds: float) -> float:
        """Waits for the end of the warm-up, and so long."""
        _first(self._reports(), "warm")
        time.sleep(seconds)
        return memory_mb(self._process.pid)

    def _reports(self) -> Iterator[dict[str, Any]]:
        text = b""
        while time.perf_counter() - self._began < TIME_LIMIT_S:
            ended = self._has_ended()
            readable, _, _ = select.select([self._reader], [], [], 0 if ended else LOOK_S)
            chunk = self._read() if readable else b""
            if not chunk:
                if ended:
                    raise ContenderError(f"it ended with {self._process.wait()}: {self._last_words()}")
                if readable:  # nobody has opened the pipe for writing yet
                    time.sleep(LOOK_S)
                self._rss_mb.append(memory_mb(self._process.pid))
                continue
            *lines, text = (text + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)
        raise ContenderError(f"it was not done after {TIME_LIMIT_S:g} s: {self._last_words()}")

    def _has_ended(self) -> bool:
        """Whether it has, leaving it to be waited for: until then its CPU time can be read."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _read(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._reader, 65_536)
        return b""

    def close(self) -> None:
        """Gives the pipe up."""
        os.close(self._reader)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def _first(reports: Iterator[dict[str, Any]], event: str) -> dict[str, Any]:
    """The next report of an event; several processes may tell the same."""
    return next(report for report in reports if report["event"] == event)
