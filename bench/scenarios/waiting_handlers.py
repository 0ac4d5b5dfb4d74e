"""Calls that wait 5 ms, up to 1,000 at once, in order per key: with many keys and with few.

The ideal is min(1,000, keys) / 5 ms. `overlaps` counts calls that began while an earlier one of their key ran.
"""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import ours, peers
from bench.contest import Results, play
from bench.ours import CONCURRENCY, WAIT_S
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, labelled, spread
from bench.topics import Filling, filled

MANY, FEW = 10_000, 200


def run(target: Target, quick: bool, results: Results) -> None:
    """Two topics, one after the other."""
    seconds, rounds = (1.5, 1) if quick else (3.0, 3)
    others, results.left_out = peers(["waiting"])
    for keys in (MANY, FEW):
        ideal = min(CONCURRENCY, keys) / WAIT_S
        contenders = [
            labelled(replace(one, title=f"{keys:,} keys: {one.title}"), keys=keys) for one in (ours("waiting"), *others)
        ]
        with filled(target, Filling(int(ideal * seconds), keys=keys), seconds=seconds) as course:
            play(contenders, course, rounds=rounds, results=results)
        for one in (one for contender in contenders for one in results.rounds.get(contender.name, ())):
            one["share_of_ideal"] = one["records_per_s"] / ideal


COLUMNS: dict[str, Column] = {
    "records/s": figure("records_per_s", "{:,.0f}"),
    "of ideal": figure("share_of_ideal", "{:.0%}"),
    "us CPU/record": figure("cpu_us"),
    "spread": spread,
    "overlaps": figure("overlaps", "{:,.0f}"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}
SCENARIO = Scenario("waiting_handlers", "calls that wait 5 ms", run, COLUMNS, plot=bars("records_per_s", "records/s"))
