"""How records ended, where that is rare enough to count one by one; what went well is counted by the lanes."""

from collections import Counter
from collections.abc import Iterable

from streamproc.core.letters import Letter

CONDITIONS_MAX = 100
"""Functions name their own conditions; those beyond so many are counted as one."""


class Counts:
    """`records`: (topic, event type, outcome) -> records; `conditions`: condition -> acknowledged dead letters."""

    __slots__ = ("conditions", "records")

    def __init__(self) -> None:
        self.records: Counter[tuple[str, str, str]] = Counter()
        self.conditions: Counter[str] = Counter()

    def skipped(self, topic: str, event_types: Iterable[str]) -> None:
        """Records that a rule lets pass."""
        for event_type in event_types:
            self.records[topic, event_type, "skipped"] += 1

    def dead_lettered(self, letter: Letter) -> None:
        """One more that was acknowledged."""
        self.records[letter.partition.topic, letter.event_type, "dead_lettered"] += 1
        known = letter.condition in self.conditions or len(self.conditions) < CONDITIONS_MAX
        self.conditions[letter.condition if known else "other"] += 1
