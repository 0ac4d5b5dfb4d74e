"""Counts of values to three significant digits, and how they are spread, in the manner of HdrHistogram."""

import math
from collections.abc import Iterator

DIGITS = 11
"""A bucket spans less than 1/1,000 of its values: 2**(DIGITS - 1) buckets for each doubling."""
MASK = (1 << DIGITS) - 1
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)
BAR = 50


class Histogram:
    """How many values there were of each size, from 0 up; its size does not depend on their number."""

    __slots__ = ("_counts", "_max", "_total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self._max = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Counts a value so often. Raises ValueError when it is below 0 or not a number."""
        if not value >= 0:
            raise ValueError(f"{value} is not 0 or more")
        mantissa, exponent = math.frexp(value)
        bucket = (exponent << DIGITS) + int(mantissa * (MASK + 1))
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self._total += count
        if value > self._max:
            self._max = value

    def merge(self, other: "Histogram") -> None:
        """Adds all values of another one."""
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self._total += other._total
        self._max = max(self._max, other._max)

    @property
    def total(self) -> int:
        """How many values there are."""
        return self._total

    @property
    def max(self) -> float:
        """The largest value, exactly; 0 of nothing."""
        return self._max

    def percentile(self, share: float) -> float:
        """The smallest value with at least so large a share (0 to 1) of all at or below it; 0 of nothing."""
        wanted = max(1, math.ceil(round(share * self._total, 6)))
        return next((value for count, value in self._cumulated() if count >= wanted), self._max)

    def shares(self) -> Iterator[tuple[float, float]]:
        """(share of all values at or below it, value), ascending."""
        return ((count / self._total, value) for count, value in self._cumulated())

    def _cumulated(self) -> Iterator[tuple[int, float]]:
        count = 0
        for bucket in sorted(self._counts):
            count += self._counts[bucket]
            yield count, self._max if count == self._total else min(self._max, _middle(bucket))


def _middle(bucket: int) -> float:
    return math.ldexp((bucket & MASK) + 0.5, (bucket >> DIGITS) - DIGITS) if bucket else 0.0


def text_plot(histogram: Histogram) -> str:
    """A line for each of `PERCENTILES`: the value, and a bar as long as its part of the largest."""
    lines = []
    for percent in PERCENTILES:
        value = histogram.percentile(percent / 100)
        bar = "#" * round(BAR * value / histogram.max) if histogram.max else ""
        lines.append(f"  {percent:6.2f} %  {value:12,.2f}  {bar}".rstrip())
    return "\n".join(lines)
