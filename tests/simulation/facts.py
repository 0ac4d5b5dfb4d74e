"""What the oracle knows: records, epochs and calls, seen from outside of the system."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamproc.model import TopicPartition
from tests.simulation.scenario import FUNCTIONS, ORDER, Made


class Violation(AssertionError):
    """An invariant or a guarantee that does not hold; `invariant` is its name."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Seen:
    """A record in the log. `before` holds, by function, the offset of the record before it in its order, -1 if none."""

    __slots__ = ("before", "made", "offset", "passes", "takers")

    def __init__(self, made: Made, offset: int, *, passes: bool) -> None:
        self.made = made
        self.offset = offset
        self.takers = FUNCTIONS[made.kind]
        self.passes = passes or made.hole
        """Nothing has to happen to it: no consumer sees it, or a rule lets it pass."""
        self.before: dict[str, int] = {}

    def domain(self, function: str) -> object:
        """What orders it for a function."""
        return ORDER[function](self.made)


class Log:
    """The records of a partition."""

    __slots__ = ("_last", "seen")

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._last: dict[tuple[str, object], int] = {}

    def append(self, made: Made, *, passes: bool) -> Seen:
        """Enters a record at the end."""
        seen = Seen(made, len(self.seen), passes=passes)
        self.seen.append(seen)
        if not seen.passes:
            for function in seen.takers:
                at = (function, seen.domain(function))
                seen.before[function] = self._last.get(at, -1)
                self._last[at] = seen.offset
        return seen


class Epoch:
    """One partition with one member, from its assignment to its end, and what the oracle saw happen in it."""

    __slots__ = (
        "_admitted",
        "acked",
        "asked",
        "closed",
        "counted",
        "counted_to",
        "cursor",
        "drained_by",
        "excused",
        "failed",
        "finished",
        "history",
        "log",
        "member",
        "missing",
        "partition",
        "refusals",
        "settled",
        "start",
    )

    def __init__(self, member: Any, partition: TopicPartition, log: Log, start: int) -> None:
        self.member = member
        self.partition = partition
        self.log = log
        self.start = self.cursor = self.counted_to = self.asked = self._admitted = start
        self.counted = 0
        self.finished: dict[tuple[str, int], str] = {}
        self.failed: set[tuple[str, int]] = set()
        self.acked: set[tuple[str, int]] = set()
        self.missing: dict[int, int] = {}
        self.settled: set[int] = set()
        self.refusals = 0
        self.closed = False
        self.excused = False
        """Its calls may overlap with a successor's: it was evicted, killed, or its drain ran out of time."""
        self.drained_by = math.inf
        self.history: list[tuple[float, int]] = []

    def settle_part(self, offset: int) -> None:
        """One of those who must be done with a record is."""
        left = self.missing.get(offset, len(self.log.seen[offset].takers) or 1) - 1
        self.missing[offset] = left
        if not left:
            self.settled.add(offset)

    @property
    def admitted(self) -> int:
        """The next offset the member has not taken in."""
        ledger = self.member.pipeline.engine.ledgers.get(self.partition)
        if ledger is not None and not self.closed:
            self._admitted = ledger.admitted
        return self._admitted

    @property
    def unsettled(self) -> int:
        """How many records that were taken in are not settled."""
        admitted = self.admitted
        while self.counted_to < admitted:
            self.counted += not self.log.seen[self.counted_to].passes
            self.counted_to += 1
        return self.counted - len(self.settled)

    @property
    def position(self) -> int:
        """The lowest offset that is not settled."""
        seen, settled, admitted = self.log.seen, self.settled, self.admitted
        while self.cursor < admitted and (self.cursor in settled or seen[self.cursor].passes):
            self.cursor += 1
        return self.cursor

    def awaits_letter(self, offset: int) -> bool:
        """Whether the record can't be handled and its dead letter is not acknowledged."""
        takers = self.log.seen[offset].takers
        dead = [function for function in takers if self.finished.get((function, offset)) == "dead"]
        return not takers or any((function, offset) not in self.acked for function in dead)


@dataclass(slots=True, eq=False)
class Call:
    """A call of a function. `verdicts` are kept while what it emitted is on its way."""

    member: Any
    function: str
    items: Sequence[tuple[Epoch, Seen, int]]
    began: float
    number: int
    verdicts: list[str] = field(default_factory=list)

    @property
    def domains(self) -> set[tuple[str, TopicPartition, object]]:
        """The orders it holds."""
        return {(self.function, epoch.partition, seen.domain(self.function)) for epoch, seen, _ in self.items}

    def excused(self) -> bool:
        """Whether it may still run although its partition has a new owner."""
        return all(epoch.excused for epoch, _, _ in self.items)


@dataclass(slots=True)
class Counts:
    """What happened in a run, to see that faults do happen."""

    records: int = 0
    calls: int = 0
    failures: int = 0
    assignments: int = 0
    commits: int = 0
    commits_failed: int = 0
    letters: int = 0
    letters_refused: int = 0
    duplicates: int = 0
    kills: int = 0
    evictions: int = 0
    leaves: int = 0
    joins: int = 0
    over_budget: int = 0
    overlaps: int = 0
    commits_stale: int = 0
    letters_cut: int = 0
    held_back: int = 0
    steps: int = 0
