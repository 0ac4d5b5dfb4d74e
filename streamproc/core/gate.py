"""When to read on: back-pressure with two marks.

A gate closes when what it measures reaches the high mark and opens again at the low mark, so that a partition does
not flap between wanted and unwanted with each settled record.
"""


class Gate:
    """Open until `level` reaches `high`; then closed until it is back at `low` (half of it)."""

    __slots__ = ("closed", "high", "low")

    def __init__(self, high: int) -> None:
        self.high = high
        self.low = high // 2
        self.closed = False

    def observe(self, level: int) -> bool:
        """Takes in a level; True while open."""
        if self.closed:
            self.closed = level > self.low
        else:
            self.closed = level >= self.high
        return not self.closed
