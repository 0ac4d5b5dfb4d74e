"""What a scenario is, and how its results become a table and a file."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.brokers import Target
from bench.contenders import BARE
from bench.contest import Contender, Results
from bench.plots import Plot, bars, save
from bench.table import table

Found = Mapping[str, Any]
"""What `document` makes of results."""
Column = Callable[[Mapping[str, Any]], str]
"""The text of a cell, from what was found of a contender."""
COST_PLOT = bars("cpu_us", "us CPU per record")
Rows = Callable[["Scenario", Found], Sequence[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play(target, quick, results)` adds rounds to results as they come, so that a run that is broken off has some.

    The table has a line for each contender, the cheapest first, with these columns; or is what `rows` makes.
    `plot` draws the picture. Where nothing is `on_kafka`, no broker is started.
    """

    name: str
    title: str
    play: Callable[[Target, bool, Results], None]
    columns: Mapping[str, Column]
    plot: Plot = COST_PLOT
    rows: Rows | None = None
    on_kafka: bool = True


def figure(name: str, text: str = "{:.2f}") -> Column:
    """The median of a figure, "" where it was not taken."""
    return lambda one: text.format(one["median"][name]) if name in one["median"] else ""


def ratio(one: Mapping[str, Any]) -> str:
    """CPU per record as a multiple of the bare loop's."""
    return f"{one['ratio_vs_bare_aiokafka']:.2f}" if one["ratio_vs_bare_aiokafka"] else ""


def least_and_most(name: str, text: str = "{:.2f}") -> Column:
    """The least and the most of a figure in a round, "" where it was not taken."""

    def column(one: Mapping[str, Any]) -> str:
        values = [each[name] for each in one["rounds"] if name in each]
        return f"{text.format(min(values))} to {text.format(max(values))}" if values else ""

    return column


def spread(one: Mapping[str, Any]) -> str:
    """The least and the most CPU per record of a round."""
    return f"{one['median']['cpu_us_min']:.2f} to {one['median']['cpu_us_max']:.2f}"


def guarantee(one: Mapping[str, Any]) -> str:
    """How often a record is handled."""
    return str(one["guarantee"])


COST: Mapping[str, Column] = {
    "us CPU/record": figure("cpu_us"),
    "x bare": ratio,
    "spread": spread,
    "records/s": figure("records_per_s", "{:,.0f}"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "delivery": guarantee,
}


def labelled(contender: Contender, **labels: Any) -> Contender:
    """A contender on a course of its own kind."""
    return replace(contender, name=f"{contender.name}{_suffix(labels)}", labels=labels)


def _suffix(labels: Mapping[str, Any]) -> str:
    return "".join(f"@{name}={value}" for name, value in labels.items())


def document(scenario: Scenario, results: Results, *, broker: str, quick: bool) -> dict[str, Any]:
    """All that a run found, for a file."""
    contenders: dict[str, dict[str, Any]] = {}
    for name, rounds in results.rounds.items():
        contender = results.contenders[name]
        contenders[name] = {
            "title": contender.title,
            "mode": contender.mode,
            "guarantee": contender.guarantee,
            "labels": dict(contender.labels),
            "median": _medians(rounds),
            "rounds": rounds,
        }
    for one in contenders.values():
        base = contenders.get(f"{BARE}{_suffix(one['labels'])}")
        ours, theirs = one["median"].get("cpu_us"), base["median"].get("cpu_us") if base else None
        one["ratio_vs_bare_aiokafka"] = round(ours / theirs, 3) if ours and theirs else None
    return {
        "scenario": scenario.name,
        "quick": quick,
        "broker": broker,
        "machine": _machine(),
        "contenders": contenders,
        "left_out": results.left_out,
    }


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "aiokafka": version("aiokafka"),
        "msgspec": version("msgspec"),
        "uvloop": version("uvloop"),
    }


def _medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, value in (figure for one in rounds for figure in one.items()):
        if isinstance(value, int | float):
            values.setdefault(name, []).append(value)
    medians = {name: statistics.median(several) for name, several in values.items()}
    costs = values.get("cpu_us")
    return {**medians, "cpu_us_min": min(costs), "cpu_us_max": max(costs)} if costs else medians


def report(scenario: Scenario, found: Found) -> str:
    """The table for people, and who is left out."""
    rows = (scenario.rows or _by_cost)(scenario, found)
    return "\n".join([table(rows), *(f"left out: {name}: {reason}" for name, reason in found["left_out"].items())])


def _by_cost(scenario: Scenario, found: Found) -> Sequence[Sequence[str]]:
    contenders = sorted(found["contenders"].values(), key=lambda one: float(one["median"].get("cpu_us", 0)))
    lines = [[one["title"], *(column(one) for column in scenario.columns.values())] for one in contenders]
    return [[scenario.title, *scenario.columns], *lines]


def summary(found: Found) -> dict[str, Any]:
    """The figures without the single rounds."""
    short = {
        name: {**one["labels"], **one["median"], "ratio_vs_bare_aiokafka": one["ratio_vs_bare_aiokafka"]}
        for name, one in found["contenders"].items()
    }
    return {**found, "contenders": short}


def write(scenario: Scenario, found: Found, folder: Path) -> Path:
    """Keeps the results as `SCENARIO.json`, and a picture of them as `SCENARIO.svg` where there is matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{scenario.name}.json"
    file.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    save(scenario.plot, found, file.with_suffix(".svg"))
    return file
