"""What a process with 1,000 schedules costs while none is due, and how long its start takes; beside one with none."""

from typing import Any

from bench.brokers import Target
from bench.contenders import program
from bench.contest import Contender, Course, Results, play, run_once
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, least_and_most

COUNTS = {1_000: "1,000 schedules", 0: "none"}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each in turn, on a new database."""
    seconds, rounds = (5, 1) if quick else (20, 5)
    contenders = [
        program("programs.scheduling", "idle", title, name=f"schedules-{count}", schedules=count)
        for count, title in COUNTS.items()
    ]
    course = Course(target.bootstrap, "none", seconds + 1, 0, warmup_share=0)
    play(contenders, course, rounds=rounds, results=results, once=_once)


def _once(contender: Contender, course: Course) -> dict[str, Any]:
    figures = run_once(contender, course)  # a record is a second
    return figures | {"cpu_percent": figures["cpu_us"] / 1e4}


COLUMNS: dict[str, Column] = {
    "% of a core": figure("cpu_percent"),
    "spread": least_and_most("cpu_percent"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "declare, ms": figure("declare_ms", "{:.0f}"),
    "first start, ms": figure("first_start_ms", "{:.0f}"),
    "later start, ms": figure("later_start_ms", "{:.0f}"),
}
SCENARIO = Scenario(
    "schedules",
    "schedules, none due",
    run,
    COLUMNS,
    plot=bars("cpu_percent", "% of a core"),
    on_kafka=False,
)
