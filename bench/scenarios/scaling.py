"""What a record costs in one worker process and in two."""

from bench.brokers import Target
from bench.contenders import ours
from bench.contest import Results, play
from bench.scenario import Column, Scenario, figure, spread
from bench.topics import Filling, filled

MODES = {"batch": "batches of 500", "record": "one event a call"}


def run(target: Target, quick: bool, results: Results) -> None:
    """One and two processes read the same topic in turns."""
    count, rounds = (400_000, 2) if quick else (2_000_000, 3)
    contenders = [
        ours(mode, f"{title}, {workers} worker{'s' * (workers > 1)}", name=f"{mode}-{workers}", workers=workers)
        for mode, title in MODES.items()
        for workers in (1, 2)
    ]
    with filled(target, Filling(count), seconds=0) as course:
        play(contenders, course, rounds=rounds, results=results)
    for mode in MODES:
        for one, two in zip(results.rounds.get(f"{mode}-1", ()), results.rounds.get(f"{mode}-2", ()), strict=False):
            one["of_one_worker"], two["of_one_worker"] = 1.0, two["cpu_us"] / one["cpu_us"]


COLUMNS: dict[str, Column] = {
    "us CPU/record": figure("cpu_us"),
    "of one worker": figure("of_one_worker"),
    "spread": spread,
    "records/s": figure("records_per_s", "{:,.0f}"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
}
SCENARIO = Scenario("scaling", "worker processes", run, COLUMNS)
