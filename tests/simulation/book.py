"""What the judges share: the log, the epochs, the counts, and the first violation."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from streamproc.model import TopicPartition
from tests.simulation.facts import Call, Counts, Epoch, Log, Violation
from tests.simulation.scenario import Made, Scenario

At = tuple[TopicPartition, int, str]
"""Partition and offset of a record, and a function; "" for a record that no function takes."""


class Book:
    """`now` is in seconds of the run; the first violation is kept in `violation`."""

    def __init__(self, scenario: Scenario, now: Callable[[], float], *, verbose: bool) -> None:
        self.scenario = scenario
        self.now = now
        self.counts = Counts()
        self.violation: Violation | None = None
        self.logs: dict[TopicPartition, Log] = defaultdict(Log)
        self.epochs: dict[Any, dict[TopicPartition, Epoch]] = defaultdict(dict)
        self.running: dict[tuple[str, TopicPartition, object], list[Call]] = defaultdict(list)
        self.handled: Counter[At] = Counter()
        self.buried: Counter[At] = Counter()
        self.told: list[str] = []
        self._verbose = verbose

    def fail(self, invariant: str, text: str) -> None:
        """Notes a violation, if it is the first."""
        if self.violation is None:
            self.violation = Violation(invariant, f"{text} (at {self.now():.3f} s)")
            self.tell(str(self.violation))

    def tell(self, text: str) -> None:
        """A line for whoever replays the seed."""
        if self._verbose:
            self.told.append(f"{self.now():9.3f}  {text}")

    def appended(self, partition: TopicPartition, made: Made) -> None:
        """A producer has written a record."""
        options = self.scenario.options
        passes = (made.kind == "nobody" and options.unknown_types == "ignore") or (
            made.kind == "tombstone" and options.tombstones == "ignore"
        )
        self.logs[partition].append(made, passes=passes)
        self.counts.records += 1

    def assigned(self, member: Any, starts: Mapping[TopicPartition, int]) -> None:
        """A member was given partitions."""
        self.tell(f"{member} gets {named(starts)}")
        self.counts.assignments += 1
        for partition, start in starts.items():
            if partition in self.epochs[member]:
                self.close([self.epochs[member][partition]])
            self.epochs[member][partition] = Epoch(member, partition, self.logs[partition], start)

    def close(self, epochs: Collection[Epoch]) -> None:
        """From now on nothing may change these."""
        for epoch in list(epochs):
            epoch.closed = True
            self.epochs[epoch.member].pop(epoch.partition, None)

    def calls_in(self, epoch: Epoch) -> list[Call]:
        """The calls that hold records of an epoch."""
        calls = {call.number: call for calls in self.running.values() for call in calls}
        return [call for call in calls.values() if any(one is epoch for one, _, _ in call.items)]

    def done(self, partition: TopicPartition, offset: int) -> bool:
        """Whether every function has handled a record or has an acknowledged dead letter of it, in whatever epoch."""
        seen = self.logs[partition].seen[offset]
        return seen.passes or all(
            self.handled[partition, offset, function] or self.buried[partition, offset, function]
            for function in seen.takers or ("",)
        )


def named(partitions: Iterable[TopicPartition]) -> str:
    """The numbers of partitions, for a line to read."""
    return ",".join(str(partition.partition) for partition in sorted(partitions)) or "nothing"


def at(partition: TopicPartition, offset: int) -> str:
    """A record's place, for a line to read."""
    return f"{partition.partition}/{offset}"
