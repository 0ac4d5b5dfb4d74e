"""How the cost of a record changes with sizes: of records, record batches, calls, and with the number of everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.brokers import Target
from bench.contenders import BARE, bare, ours
from bench.contest import Contender, Results, play
from bench.plots import curves
from bench.publish import Shape
from bench.scenario import Found, Scenario, labelled
from bench.topics import Filling, filled

RECORDS = 300_000
MANY = 1_000_000
"""Where more fits into an answer of the broker: of many partitions, or compressed."""
USUAL = Filling(RECORDS)
BYTES = 282
"""Of a usual record."""
BATCH, RECORD = "batch", "record"
TITLES = {BARE: "bare", BATCH: "batches", RECORD: "one a call"}


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve: at `x` (its unit is the curve's name), the topic and what our contender is told."""

    curve: str
    x: int | str
    filling: Filling = USUAL
    options: Mapping[str, int] | None = None

    def contenders(self) -> list[Contender]:
        """The bare loop and ours, on this point."""
        ours_here = [ours(mode, name=mode, **self.options or {}) for mode in (BATCH, RECORD)]
        at = f"{self.curve}: {self.x}"
        return [
            labelled(replace(one, title=f"{TITLES[one.name]}, {at}"), curve=self.curve, x=self.x)
            for one in (bare(), *ours_here)
        ]


def _of_bytes(size: int) -> Filling:
    padding = (size - BYTES) * 3 // 4  # the rest is base64
    return replace(USUAL, records=max(500, min(RECORDS, 60_000_000 // size)), padding=max(0, padding))


def _of_batches(records: int) -> Filling:
    count = 45_000 if records == 1 else 150_000 if records < 100 else RECORDS
    return replace(USUAL, records=count, shape=Shape(batch_records=records))


POINTS = [
    *(Point("bytes of a record", size, _of_bytes(size)) for size in (BYTES, 1_000, 10_000, 100_000)),
    *(Point("records in a record batch", size, _of_batches(size)) for size in (1, 10, 100, 1_000, 5_000)),
    *(Point("partitions", count, replace(USUAL, shape=Shape(count))) for count in (1, 4, 16)),
    *(Point("partitions", count, replace(USUAL, records=MANY, shape=Shape(count))) for count in (64, 256)),
    *(Point("keys", count, replace(USUAL, keys=count)) for count in (1, 100, 10_000, 1_000_000)),
    *(Point("records in a call", size, USUAL, {"batch": size}) for size in (1, 10, 100, 1_000, 10_000)),
    *(Point("event types", count, replace(USUAL, types=count), {"types": count}) for count in (1, 5, 50)),
    *(
        Point("compression", codec or "none", replace(USUAL, records=MANY, shape=Shape(codec=codec)))
        for codec in ("", "lz4", "zstd", "snappy", "gzip")
    ),
    *(Point("% that cannot be decoded", share, replace(USUAL, bad=share / 100)) for share in (0, 1)),
]


def run(target: Target, quick: bool, results: Results) -> None:
    """All points of a topic on one topic; quickly, only the ends of those curves that need few records."""
    points = _ends(POINTS) if quick else POINTS
    for filling in dict.fromkeys(point.filling for point in points):
        smaller = replace(filling, records=filling.records // 4) if quick else filling
        with filled(target, smaller, seconds=0) as course:
            for point in (point for point in points if point.filling == filling):
                play(point.contenders(), course, rounds=1 if quick else 2, results=results)


def _ends(points: Sequence[Point]) -> list[Point]:
    curves = {point.curve: [one for one in points if one.curve == point.curve] for point in points}
    short = [curve for curve in curves.values() if all(point.filling.records < MANY for point in curve)]
    return [end for curve in short for end in (curve[0], curve[-1])]


def rows(scenario: Scenario, found: Found) -> list[list[str]]:
    """A line for each point: the cost of each contender, and as a multiple of the bare loop's."""
    lines = [
        [scenario.title, "", *(f"{title}, us" for title in TITLES.values()), "batches / bare", "one a call / bare"]
    ]
    points: dict[tuple[str, Any], dict[str, Mapping[str, Any]]] = {}
    for name, one in found["contenders"].items():
        points.setdefault((one["labels"]["curve"], one["labels"]["x"]), {})[name.partition("@")[0]] = one
    for curve, x in [(one.curve, one.x) for one in POINTS if (one.curve, one.x) in points]:
        ones = points[curve, x]
        costs = [f"{ones[name]['median']['cpu_us']:.2f}" if name in ones else "" for name in TITLES]
        ratios = [str(ones[name]["ratio_vs_bare_aiokafka"] or "") if name in ones else "" for name in (BATCH, RECORD)]
        lines.append([curve, f"{x:,}" if isinstance(x, int) else x, *costs, *ratios])
    return lines


SCENARIO = Scenario("sizes", "us CPU/record", run, {}, plot=curves, rows=rows)
