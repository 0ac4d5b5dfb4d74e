"""What a scenario is, and how its results become a table and a file."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.brokers import Target
from bench.contenders import BARE
from bench.contest import Results
from bench.table import table

Figures = Mapping[str, float]
"""Medians over the rounds of one contender."""
Column = Callable[[Figures, Figures], str]
"""The text of a cell, from the figures of a contender and those of the bare loop (empty where it does not run)."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play(target, quick, results)` adds rounds to results as they come, so that a run that is broken off has some."""

    name: str
    title: str
    play: Callable[[Target, bool, Results], None]
    columns: Mapping[str, Column]


def cpu(one: Figures, _bare: Figures) -> str:
    """CPU microseconds per record."""
    return f"{one['cpu_us']:.2f}"


def ratio(one: Figures, bare: Figures) -> str:
    """CPU per record as a multiple of the bare loop's."""
    return f"{one['cpu_us'] / bare['cpu_us']:.2f}" if bare else ""


def spread(one: Figures, _bare: Figures) -> str:
    """The least and the most CPU per record of a round."""
    return f"{one['cpu_us_min']:.2f} to {one['cpu_us_max']:.2f}"


def rate(one: Figures, _bare: Figures) -> str:
    """Records per second."""
    return f"{one['records_per_s']:,.0f}"


def memory(one: Figures, _bare: Figures) -> str:
    """Peak resident memory."""
    return f"{one['rss_mb']:.0f}"


COST: Mapping[str, Column] = {
    "us CPU/record": cpu,
    "x bare": ratio,
    "spread": spread,
    "records/s": rate,
    "peak MiB": memory,
}


def document(scenario: Scenario, results: Results, *, broker: str, quick: bool) -> dict[str, Any]:
    """All that a run found, for a file."""
    contenders: dict[str, dict[str, Any]] = {
        name: {
            "title": results.contenders[name].title,
            "mode": results.contenders[name].mode,
            "guarantee": results.contenders[name].guarantee,
            "median": _medians(rounds),
            "rounds": rounds,
        }
        for name, rounds in results.rounds.items()
    }
    base = contenders[BARE]["median"]["cpu_us"] if BARE in contenders else None
    for one in contenders.values():
        one["ratio_vs_bare_aiokafka"] = round(one["median"]["cpu_us"] / base, 3) if base else None
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
    names = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in names}
    costs = [one["cpu_us"] for one in rounds]
    return {**medians, "cpu_us_min": min(costs), "cpu_us_max": max(costs)}


def report(scenario: Scenario, found: Mapping[str, Any]) -> str:
    """The table for people: the cheapest first."""
    contenders = found["contenders"]
    bare = contenders.get(BARE, {}).get("median", {})
    rows = [[scenario.title, *scenario.columns, "delivery"]]
    for one in sorted(contenders.values(), key=lambda one: float(one["median"]["cpu_us"])):
        cells = [column(one["median"], bare) for column in scenario.columns.values()]
        rows.append([one["title"], *cells, one["guarantee"]])
    out = [f"left out: {name}: {reason}" for name, reason in found["left_out"].items()]
    return "\n".join([table(rows), *out])


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures without the single rounds."""
    short = {
        name: {**one["median"], "ratio_vs_bare_aiokafka": one["ratio_vs_bare_aiokafka"]}
        for name, one in found["contenders"].items()
    }
    return {**found, "contenders": short}


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Keeps the results as `SCENARIO.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{found['scenario']}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file
