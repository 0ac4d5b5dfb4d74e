"""Every scenario's picture and table, from results of the form that a run leaves."""

from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import SCENARIOS, _scenario
from bench.contenders import bare, ours
from bench.contest import Results
from bench.plots import save
from bench.scenario import document, labelled, report
from bench.scenarios.sizes import POINTS, _ends

FIGURES: dict[str, Any] = {
    "cpu_us": 1.5,
    "records": 1_000,
    "records_per_s": 600_000.0,
    "rss_mb": 50.0,
    "rss_first_half_mb": 49.0,
    "rss_second_half_mb": 50.0,
    "rss_series_mb": [48.0, 50.0],
    "idle_mb": 40.0,
    "start_s": 0.3,
    "import_ms": 120.0,
    "overlaps": 0,
    "share_of_ideal": 0.9,
    "of_one_worker": 1.0,
    "latency_ms": {"1.3": 90, "20.0": 10},
    "p50_ms": 1.3,
    "p99_ms": 20.0,
    "p999_ms": 20.0,
    "asked_per_s": 5_000.0,
    "reached_per_s": 5_000.0,
    "unhandled": 0,
    "backlog_max": 9,
    "generator_late_p99_ms": 0.5,
    "cpu_ms": 48.0,
    "per_core_s": 20.8,
    "psnr_db": 32.2,
    "bytes": 55_000.0,
    "late_p50_ms": 0.1,
    "late_p99_ms": 4.0,
    "late_max_ms": 9.0,
    "locked_p99_ms": 2.0,
    "cpu_percent": 0.2,
    "declare_ms": 80.0,
    "first_start_ms": 180.0,
    "later_start_ms": 40.0,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_results_become_a_table_and_a_picture(name: str, tmp_path: Path) -> None:
    scenario = _scenario(name)
    contenders = [bare(), ours("batch"), ours("batch", "another", name="other")]
    if name == "sizes":
        contenders = [one for point in POINTS for one in point.contenders()]
    results = Results({one.name: one for one in contenders}, {one.name: [FIGURES, FIGURES] for one in contenders})
    found = document(scenario, results, broker="apache-kafka", quick=True)
    lines = report(scenario, found).splitlines()
    assert len(lines) == 1 + (len(POINTS) if name == "sizes" else len(contenders))
    assert save(scenario.plot, found, tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_text().count("<path") > 5


def test_contenders_are_compared_with_the_bare_loop_on_the_same_course() -> None:
    contenders = [labelled(one, keys=keys) for keys in (1, 2) for one in (bare(), ours("batch"))]
    costs = iter((1.0, 0.5, 2.0, 3.0))
    results = Results(
        {one.name: one for one in contenders}, {one.name: [{"cpu_us": next(costs)}] for one in contenders}
    )
    found = document(_scenario("throughput"), results, broker="", quick=True)["contenders"]
    assert [one["ratio_vs_bare_aiokafka"] for one in found.values()] == [1.0, 0.5, 1.0, 1.5]


def test_quickly_only_the_ends_of_each_curve_are_measured() -> None:
    ends = _ends(POINTS)
    assert {point.curve for point in POINTS} - {point.curve for point in ends} == {"partitions", "compression"}
    assert [point.x for point in ends if point.curve == "keys"] == [1, 1_000_000]
