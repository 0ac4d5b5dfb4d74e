"""What a contender in Python tells the harness: when it is warm, and when it is done. Needs nothing but Python."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Task:
    """The options of a contender, as peers/README.md describes them."""

    bootstrap: str
    topic: str
    group: str
    count: int
    warmup: int
    mode: str
    report: Path

    @classmethod
    def from_arguments(cls) -> Self:
        """What the command line says."""
        parser = argparse.ArgumentParser()
        for field in fields(cls):
            required = field.default is MISSING
            parser.add_argument(f"--{field.name}", required=required, default=field.default, type=field.type)
        return cls(**vars(parser.parse_args()))


class Meter:
    """Counts records; `hot` is what the functions count. `done` is true once all were read, `on_done` called then.

    For calls that wait, `begin` and `end` notice what runs out of order; `note` notes how old a record is. Not to be
    called from several threads at once.
    """

    def __init__(self, task: Task, on_done: Callable[[], None] = lambda: None) -> None:
        self.task = task
        self._on_done = on_done
        self.hot = 0
        self.done = False
        self.warm = False
        self._overlaps = 0
        self._running: Counter[object] = Counter()
        self._latest: dict[object, int] = {}
        self._latencies: Counter[float] = Counter()
        self.seen = 0
        self._next = task.warmup
        self._pipe = task.report.open("w", buffering=1)

    def add(self, records: int) -> None:
        """So many more."""
        self.seen += records
        if self.seen >= self._next:
            self._pass_mark()

    def note(self, timestamp: int) -> None:
        """A function is called with a record that the broker stamped then, in milliseconds since the epoch."""
        if self.warm:
            self._latencies[round(time.time() * 1e3 - timestamp, 1)] += 1

    def begin(self, key: object, offset: int) -> None:
        """A call with a record of a key begins."""
        if self._running[key] or offset <= self._latest.get(key, -1):
            self._overlaps += 1
        self._running[key] += 1
        self._latest[key] = offset

    def end(self, key: object) -> None:
        """A call ends."""
        self._running[key] -= 1

    def _pass_mark(self) -> None:
        if not self.warm:
            self.warm, self._next = True, self.task.count
            self._tell({"event": "warm", "records": self.seen})
        if self.seen >= self.task.count and not self.done:
            self.done = True
            self._tell({"event": "done", "records": self.seen, "hot": self.hot, **self._of_mode()})
            self._on_done()

    def _of_mode(self) -> dict[str, object]:
        if self.task.mode == "latency":
            return {"latency_ms": self._latencies}
        return {"overlaps": self._overlaps} if self.task.mode == "waiting" else {}

    def _tell(self, report: dict[str, object]) -> None:
        self._pipe.write(json.dumps(report) + "\n")
