"""Resident memory: idle, at full rate, and whether it grows over many records."""

from bench.brokers import Target
from bench.contenders import ours
from bench.contest import Results, idle, play
from bench.plots import memory
from bench.scenario import Column, Scenario, figure
from bench.topics import Filling, filled

IDLE_S = 3.0


def run(target: Target, quick: bool, results: Results) -> None:
    """Idle on a topic of one record, then through a long one."""
    contenders = [
        ours("batch", "streamproc, batches of 500", name="batch"),
        ours("record", "streamproc, one event a call", name="record"),
    ]
    with filled(target, Filling(1), seconds=0) as course:
        idle_mb = {one.name: idle(one, course, IDLE_S) for one in contenders}
    with filled(target, Filling(500_000 if quick else 20_000_000), seconds=0) as course:
        play(contenders, course, rounds=1, results=results)
    for name, rounds in results.rounds.items():
        for one in rounds:
            one["idle_mb"] = idle_mb[name]


COLUMNS: dict[str, Column] = {
    "records": figure("records", "{:,.0f}"),
    "idle MiB": figure("idle_mb", "{:.0f}"),
    "first half": figure("rss_first_half_mb", "{:.1f}"),
    "second half": figure("rss_second_half_mb", "{:.1f}"),
    "peak MiB": figure("rss_mb", "{:.1f}"),
}
SCENARIO = Scenario("memory", "resident memory", run, COLUMNS, plot=memory)
