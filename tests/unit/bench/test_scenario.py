import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import SCENARIOS
from bench.compare import compare
from bench.contenders import PEERS, bare, ours
from bench.contest import Results
from bench.scenario import COST, Scenario, document, report, summary, write
from streamproc.errors import ConfigError

SCENARIO = Scenario("throughput", "batches", lambda target, quick, results: None, COST)


def rounds(*costs: float) -> list[dict[str, Any]]:
    return [{"cpu_us": cost, "records_per_s": 1e6 / cost, "rss_mb": 50.0, "hot": 3} for cost in costs]


def found(*costs: float) -> dict[str, Any]:
    results = Results({"bare": bare(), "streamproc": ours("batch", "streamproc")})
    results.rounds = {"bare": rounds(2.0, 2.2, 1.8), "streamproc": rounds(*costs)}
    results.left_out = {"peer-batch": "java not found"}
    return document(SCENARIO, results, broker="apache-kafka", quick=True)


def test_a_document_holds_medians_rounds_and_the_ratio() -> None:
    document = found(1.0, 1.2, 5.0)
    one = document["contenders"]["streamproc"]
    assert (one["median"]["cpu_us"], one["median"]["cpu_us_max"], one["ratio_vs_bare_aiokafka"]) == (1.2, 5.0, 0.6)
    assert len(one["rounds"]) == 3
    assert "rounds" not in summary(document)["contenders"]["streamproc"]


def test_the_table_is_sorted_and_says_who_is_left_out() -> None:
    lines = report(SCENARIO, found(1.0)).splitlines()
    assert [line.split()[0] for line in lines] == ["batches", "streamproc", "aiokafka:", "left"]
    assert lines[1].split()[1:3] == ["1.00", "0.50"]
    assert "java not found" in lines[3]


@pytest.mark.parametrize(
    ("costs", "verdict"), [((3.0, 3.1), "dearer"), ((0.5, 0.6), "cheaper"), ((1.0, 1.4), "within the noise")]
)
def test_a_change_counts_when_the_rounds_lie_apart(tmp_path: Path, costs: tuple[float, ...], verdict: str) -> None:
    before, after = write(SCENARIO, found(1.0, 1.2), tmp_path / "a"), write(SCENARIO, found(*costs), tmp_path / "b")
    (line,) = [line for line in compare(before, after).splitlines() if line.strip().startswith("streamproc")]
    assert line.endswith(verdict)


def test_a_file_without_results_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[]")
    with pytest.raises(ConfigError, match=r"x\.json holds no results"):
        compare(file, file)


def test_results_of_two_scenarios_are_not_compared(tmp_path: Path) -> None:
    one = write(SCENARIO, found(1.0), tmp_path)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"scenario": "latency", "contenders": {}}))
    with pytest.raises(ConfigError, match="not comparable"):
        compare(one, other)


def test_each_scenario_has_a_file_and_each_file_is_a_scenario() -> None:
    files = {file.stem for file in (PEERS.parent / "scenarios").glob("*.py")} - {"__init__"}
    assert files == set(SCENARIOS)
