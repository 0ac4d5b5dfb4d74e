"""How long a record takes from the broker's append to the function, at 20,000 records/s.

The broker stamps records in whole milliseconds, cut off, so that a figure is up to 1 ms too long.
"""

from bench.brokers import Target
from bench.contenders import ours, peers
from bench.contest import Results, play
from bench.scenario import Column, Figures, Scenario, cpu, memory
from bench.topics import flowing

RATE = 20_000
WARMUP_S = 6.0
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each contender gets a topic and a producer of its own, one after the other."""
    rounds, seconds = (1, 6.0) if quick else (3, 15.0)
    others, results.left_out = peers(["latency"])
    for _ in range(rounds):
        for contender in (ours("latency", "streamproc"), *others):
            with flowing(target, rate=RATE, seconds=seconds, warmup_s=WARMUP_S) as course:
                play([contender], course, rounds=1, results=results)
    for figures in (one for rounds_of in results.rounds.values() for one in rounds_of):
        figures.update(percentiles(figures["latency_ms"]))


def percentiles(counts: dict[str, int]) -> dict[str, float]:
    """The latencies in milliseconds that these shares of the records stay below, from counts by milliseconds."""
    steps = sorted((float(text), count) for text, count in counts.items())
    total = sum(count for _, count in steps)
    found = {}
    for name, share in SHARES.items():
        seen = 0
        for milliseconds, count in steps:
            seen += count
            if seen >= share * total:
                found[name] = milliseconds
                break
    return found


def _column(name: str) -> Column:
    def text(one: Figures, _bare: Figures) -> str:
        return f"{one[name]:.1f}"

    return text


COLUMNS: dict[str, Column] = {
    "p50 ms": _column("p50_ms"),
    "p99 ms": _column("p99_ms"),
    "p99.9 ms": _column("p999_ms"),
    "us CPU/record": cpu,
    "peak MiB": memory,
}
SCENARIO = Scenario("latency", f"append to function, {RATE:,} records/s", run, COLUMNS)
