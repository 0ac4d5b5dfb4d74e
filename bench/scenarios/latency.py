"""How long a record takes from the broker's append to the function, at 20,000 records/s.

The broker stamps records in whole milliseconds, cut off, so that a figure is up to 1 ms too long.
"""

from collections.abc import Mapping

from bench.brokers import Target
from bench.contenders import ours, peers
from bench.contest import Results, play
from bench.plots import histogram_of
from bench.plots import percentiles as percentile_plot
from bench.scenario import Column, Scenario, figure, guarantee
from bench.topics import flowing

RATE = 20_000
WARMUP_S = 2.0
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each contender gets a topic and a producer of its own, one after the other."""
    rounds, seconds = (1, 3.0) if quick else (3, 8.0)
    others, results.left_out = peers(["latency"])
    for _ in range(rounds):
        for contender in (ours("latency"), *others):
            with flowing(target, rate=RATE, seconds=seconds, warmup_s=WARMUP_S) as course:
                play([contender], course, rounds=1, results=results)
    for figures in (one for rounds_of in results.rounds.values() for one in rounds_of):
        figures.update(percentiles(figures["latency_ms"]))


def percentiles(counts: Mapping[str, int]) -> dict[str, float]:
    """The latencies in milliseconds that these shares of the records stay below, from counts by milliseconds."""
    histogram = histogram_of(counts)
    return {name: histogram.percentile(share) for name, share in SHARES.items()}


COLUMNS: dict[str, Column] = {
    "p50 ms": figure("p50_ms", "{:.1f}"),
    "p99 ms": figure("p99_ms", "{:.1f}"),
    "p99.9 ms": figure("p999_ms", "{:.1f}"),
    "us CPU/record": figure("cpu_us"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}
SCENARIO = Scenario("latency", f"append to function, {RATE:,} records/s", run, COLUMNS, plot=percentile_plot)
