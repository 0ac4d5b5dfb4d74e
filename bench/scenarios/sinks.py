"""What it costs to store readings in SQLite, once per event id, in batches of 1,000; and by hand."""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import ours, peers
from bench.contest import Results, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, spread
from bench.topics import Filling, filled

BATCH = 1_000


def run(target: Target, quick: bool, results: Results) -> None:
    """Each round into a new database."""
    count, rounds, seconds = (100_000, 1, 1.0) if quick else (500_000, 3, 4.0)
    others, results.left_out = peers(["sink"])
    with filled(target, Filling(count), seconds=seconds) as course:
        mine = replace(ours("sink", batch=BATCH), guarantee="at least once, each row once")
        play([mine, *others], course, rounds=rounds, results=results)


COLUMNS: dict[str, Column] = {
    "rows/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/row": figure("cpu_us"),
    "spread": spread,
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}
SCENARIO = Scenario("sinks", "rows into SQLite", run, COLUMNS, plot=bars("records_per_s", "rows/s"))
