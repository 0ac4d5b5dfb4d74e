"""What a load run found: a table, percentile plots as text and SVG, JSON."""

import importlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.histogram import Histogram, text_plot
from bench.load_observer import POLL_S
from bench.plots import draw_percentiles
from bench.table import table
from streamproc.errors import ConfigError

SLOW_MS = 100.0
"""A generator later than this at the 99th percentile has not kept up."""
ACKNOWLEDGEMENT, END_TO_END = "turn to acknowledgement", "end to end"


@dataclass(slots=True)
class Outcome:
    """What a load run found. Latencies are in milliseconds from the turn of a record, which is when it was due."""

    rate: float
    seconds: float
    observed: bool = False
    asked: int = 0
    sent: int = 0
    acknowledged: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    handled: int = 0
    backlog_max: int = 0
    dead_letters: int | None = None
    behind_before: int = 0
    held_back: bool = False
    lost_sight: bool = False
    interrupted: bool = False
    took_s: float = 0.0
    lateness_ms: Histogram = field(default_factory=Histogram)
    acknowledgement_ms: Histogram = field(default_factory=Histogram)
    end_to_end_ms: Histogram = field(default_factory=Histogram)
    poll_ms: Histogram = field(default_factory=Histogram)

    @property
    def failed(self) -> int:
        """Records that the broker refused or did not acknowledge in time."""
        return self.failures.total()

    @property
    def unacknowledged(self) -> int:
        """Records sent of which nothing is known."""
        return self.sent - self.acknowledged - self.failed

    @property
    def backlog(self) -> int:
        """Records sent and not handled, without those that failed."""
        return self.sent - self.failed - self.handled

    @property
    def rate_reached(self) -> float:
        """Acknowledged records per second, up to the last acknowledgement."""
        return self.acknowledged / self.took_s if self.took_s else 0.0

    @property
    def latencies(self) -> dict[str, Histogram]:
        """What was measured, by name."""
        found = {ACKNOWLEDGEMENT: self.acknowledgement_ms}
        return {**found, END_TO_END: self.end_to_end_ms} if self.observed else found


def report(found: Outcome) -> str:
    """The table, what is to be known about it, and a percentile plot of each latency."""
    plots = [f"{name}, ms\n{text_plot(one)}" for name, one in found.latencies.items() if one.total]
    return "\n\n".join([table(_rows(found)), *filter(None, ["\n".join(_remarks(found))]), *plots])


def _rows(found: Outcome) -> list[list[str]]:
    def observed(value: int | None) -> str:
        return "not known" if value is None or not found.observed else f"{value:,}"

    late = found.lateness_ms
    return [
        ["asked records/s", f"{found.rate:,.0f}"],
        ["reached records/s", f"{found.rate_reached:,.0f}"],
        ["sent", f"{found.sent:,}"],
        ["acknowledged", f"{found.acknowledged:,}"],
        ["failed", f"{found.failed:,}"],
        ["not acknowledged", f"{found.unacknowledged:,}"],
        ["handled", observed(found.handled)],
        *(
            [f"{name}, {percent} ms", f"{value:,.1f}"]
            for name, one in found.latencies.items()
            for percent, value in _percentiles(one).items()
        ),
        ["largest backlog", observed(found.backlog_max)],
        ["dead letters", observed(found.dead_letters)],
        ["generator late, p99 ms", f"{late.percentile(0.99):,.1f}"],
        ["generator late, max ms", f"{late.max:,.1f}"],
    ]


def _percentiles(histogram: Histogram) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: histogram.percentile(share) for name, share in shares.items()}


def _remarks(found: Outcome) -> list[str]:
    """What a reader must know to judge the numbers."""
    never, late = found.asked - found.sent, found.lateness_ms.percentile(0.99)
    polls = f"{POLL_S * 1000:g} ms (between polls: p99 {found.poll_ms.percentile(0.99):,.1f} ms, "
    said = {
        "Broken off: the numbers are those up to then.": found.interrupted,
        "Latencies end at the acknowledgement: what the service does is seen with --metrics only.": not found.observed,
        f"End to end is exact up to the poll interval, {polls}max {found.poll_ms.max:,.1f} ms).": found.observed,
        f"The service was {found.behind_before:,} records behind at the start; its end to end counts them, too.": (
            found.behind_before > 0
        ),
        f"Kafka held the generator back: {never:,} records were not sent.": found.held_back and never > 0,
        "Kafka held the generator back for a while; latencies count it.": found.held_back and not never,
        f"The generator could not keep up with {found.rate:,.0f} records/s: it was {late:,.0f} ms late at the 99th "
        f"percentile and left {never:,} records out. Latencies count its lateness: ask for less, or run several.": (
            not found.held_back and not found.interrupted and (late > SLOW_MS or never > 0)
        ),
        f"Failed: {', '.join(f'{name} {count:,}' for name, count in found.failures.items())}.": found.failed > 0,
        f"{found.unacknowledged:,} records are not acknowledged; latencies lack them.": found.unacknowledged > 0,
        "No metrics address answered at the end: handled, backlog and end to end are from before.": found.lost_sight,
        f"{found.acknowledged - found.handled:,} acknowledged records were not seen handled; end to end lacks them.": (
            found.observed and found.handled < found.acknowledged
        ),
    }
    return [sentence for sentence, holds in said.items() if holds]


def as_json(found: Outcome) -> dict[str, Any]:
    """The same for programs; null is what was not observed."""
    return {
        "rate_asked": found.rate,
        "rate_reached": round(found.rate_reached, 1),
        "seconds": found.seconds,
        "interrupted": found.interrupted,
        "sent": found.sent,
        "never_sent": found.asked - found.sent,
        "acknowledged": found.acknowledged,
        "failed": found.failed,
        "failures": dict(found.failures),
        "not_acknowledged": found.unacknowledged,
        "handled": found.handled if found.observed else None,
        "backlog_max": found.backlog_max if found.observed else None,
        "dead_letters": found.dead_letters,
        "acknowledgement_ms": _rounded(found.acknowledgement_ms),
        "end_to_end_ms": _rounded(found.end_to_end_ms) if found.observed else None,
        "generator_late_ms": _rounded(found.lateness_ms),
        "poll_interval_ms": _rounded(found.poll_ms) if found.observed else None,
        "held_back": found.held_back,
    }


def _rounded(histogram: Histogram) -> dict[str, float] | None:
    return {name: round(value, 3) for name, value in _percentiles(histogram).items()} if histogram.total else None


def check_plot(file: Path) -> None:
    """Raises ConfigError when `draw` could not write this file."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise ConfigError("--plot needs matplotlib, which is in the environment of `make bench`") from None
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--plot {file}: there is no folder {file.absolute().parent}")


def draw(found: Outcome, file: Path) -> None:
    """Writes an SVG: latency over percentile, the x axis logarithmic in 1 / (1 - percentile). Raises ConfigError."""
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(9, 5))
    axes = figure.subplots()
    draw_percentiles(axes, found.latencies)
    axes.set(ylabel="ms from the turn of the record", ylim=(0, None))
    axes.set_title(f"{found.rate:,.0f} records/s asked, {found.rate_reached:,.0f} reached")
    try:
        figure.savefig(file, format="svg")
    except OSError as error:
        raise ConfigError(f"--plot {file}: {error.strerror}") from None
