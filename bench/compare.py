"""What changed between two runs of a scenario, beyond the noise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.table import table
from streamproc.errors import ConfigError


def compare(before: Path, after: Path) -> str:
    """A table of CPU per record, run against run; a change counts when the rounds of the two do not overlap."""
    first, second = _read(before), _read(after)
    if first["scenario"] != second["scenario"]:
        raise ConfigError(f"{before} holds {first['scenario']}, {after} holds {second['scenario']}: not comparable")
    rows = [["contender", "us before", "us after", "change", "verdict"]]
    for name, one in first["contenders"].items():
        other = second["contenders"].get(name)
        if other is not None:
            rows.append([one["title"], *_cells(one["median"], other["median"])])
    return table(rows)


def _cells(one: Mapping[str, float], other: Mapping[str, float]) -> list[str]:
    change = other["cpu_us"] / one["cpu_us"] - 1
    if other["cpu_us_min"] > one["cpu_us_max"]:
        verdict = "dearer"
    elif other["cpu_us_max"] < one["cpu_us_min"]:
        verdict = "cheaper"
    else:
        verdict = "within the noise"
    return [f"{one['cpu_us']:.2f}", f"{other['cpu_us']:.2f}", f"{change:+.0%}", verdict]


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        _ = found["scenario"], found["contenders"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} holds no results of a scenario: {type(error).__name__}: {error}") from None
    return found
