"""The load generator's plan and its report; that it runs is shown on a real Kafka, in tests/integration."""

import json
import math
import re
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.generate import Mix, records
from bench.load import Plan, mix_of, opened, seconds_of
from bench.load_report import Outcome, as_json, check_plot, draw, report
from streamproc.errors import BrokerError, ConfigError


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1d", "s", "1 s"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--for"):
        seconds_of(text)


def test_a_mix_of_all_of_1_has_no_bad_records() -> None:
    mix = mix_of("sensor=0.7,order=0.2,user=0.1")
    assert mix.sensor + mix.order + mix.user >= 1
    assert {record.kind for record in records(2_000, 1, mix)} == {"sensor.reading", "order.placed", "user.created"}


def test_what_a_mix_leaves_out_is_bad_records() -> None:
    assert mix_of("user=.5") == Mix(sensor=0, order=0, user=0.5, numbered=False)
    assert {record.kind for record in records(100, 1, mix_of("user=.5"))} == {"user.created", "bad"}


@pytest.mark.parametrize(
    "text", ["", "sensor", "sensor=", "sensor=x", "sensor=1,", "bird=1", "user=-1", "user=0,user=1"]
)
def test_what_is_no_mix_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write shares as in sensor=0\.7"):
        mix_of(text)


def test_a_mix_of_more_than_1_is_told() -> None:
    with pytest.raises(ConfigError, match=r"sum to 1\.1, which is more than 1"):
        mix_of("sensor=0.9,order=0.2")


def plan(**changes: Any) -> Plan:
    given = {"bootstrap": "127.0.0.1:1", "topic": "events", "rate": 10.0, "seconds": 1.0, "mix": mix_of("user=1")}
    return Plan(**{**given, **changes})


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_of_nothing_is_told(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"--rate .*: write how many records per second"):
        plan(rate=rate)


async def test_a_kafka_that_is_not_there_is_told() -> None:
    with pytest.raises(BrokerError, match=r"Kafka at 127\.0\.0\.1:1 did not answer"):
        async with opened(plan()):
            pass


async def test_a_kafka_that_is_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerError, match=r"did not answer within 0\.2 s"):
            async with opened(plan(bootstrap=address)):
                pass


async def test_a_broker_without_a_port_number_is_told() -> None:
    with pytest.raises(ConfigError, match="write it as HOST:PORT"):
        async with opened(plan(bootstrap="kafka:port")):
            pass


def outcome(**changes: Any) -> Outcome:
    """Of a run of 100 records/s for a second in which all went well."""
    counts = {"asked": 100, "sent": 100, "acknowledged": 100, "handled": 100, "backlog_max": 9, "dead_letters": 2}
    found = Outcome(100.0, 1.0, **{"observed": True, "took_s": 1.0, **counts, **changes})
    for latency in range(100):
        found.acknowledgement_ms.add(latency)
        found.end_to_end_ms.add(latency + 20)
        found.lateness_ms.add(1.0)
        found.poll_ms.add(20.0)
    return found


def rows(found: Outcome) -> dict[str, str]:
    lines = report(found).partition("\n\n")[0].splitlines()
    return dict(re.split(r"  +", line.strip()) for line in lines)


def test_the_table_says_what_was_asked_reached_and_measured() -> None:
    assert rows(outcome()) == {
        "asked records/s": "100",
        "reached records/s": "100",
        "sent": "100",
        "acknowledged": "100",
        "failed": "0",
        "not acknowledged": "0",
        "handled": "100",
        "turn to acknowledgement, p50 ms": "49.0",
        "turn to acknowledgement, p99 ms": "98.0",
        "turn to acknowledgement, p99.9 ms": "99.0",
        "turn to acknowledgement, max ms": "99.0",
        "end to end, p50 ms": "69.0",
        "end to end, p99 ms": "118.0",
        "end to end, p99.9 ms": "119.0",
        "end to end, max ms": "119.0",
        "largest backlog": "9",
        "dead letters": "2",
        "generator late, p99 ms": "1.0",
        "generator late, max ms": "1.0",
    }


def test_without_a_service_the_table_does_not_claim_to_know_it() -> None:
    found = rows(outcome(observed=False))
    assert [found[name] for name in ("handled", "largest backlog", "dead letters")] == ["not known"] * 3
    assert "end to end, p50 ms" not in found
    assert as_json(outcome(observed=False))["end_to_end_ms"] is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "End to end is exact up to the poll interval, 20 ms (between polls: p99 20.0 ms, max 20.0 ms)."),
        (
            {"observed": False},
            "Latencies end at the acknowledgement: what the service does is seen with --metrics only.",
        ),
        ({"interrupted": True, "sent": 50}, "Broken off: the numbers are those up to then."),
        ({"behind_before": 7}, "The service was 7 records behind at the start"),
        ({"asked": 150}, "The generator could not keep up with 100 records/s: it was 1 ms late at the 99th percentile"),
        ({"asked": 150, "held_back": True}, "Kafka held the generator back: 50 records were not sent."),
        ({"held_back": True}, "Kafka held the generator back for a while; latencies count it."),
        ({"failures": Counter(Timeout=3)}, "Failed: Timeout 3."),
        ({"sent": 105}, "5 records are not acknowledged; latencies lack them."),
        ({"handled": 90}, "10 acknowledged records were not seen handled; end to end lacks them."),
        ({"lost_sight": True}, "No metrics address answered at the end"),
    ],
)
def test_what_must_be_known_to_judge_the_numbers_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in report(outcome(**{"asked": changes.get("sent", 100), **changes}))
    assert changes == {} or sentence not in report(outcome())


def test_a_generator_that_is_late_says_so_though_it_sent_all() -> None:
    found = outcome()
    found.lateness_ms.add(500.0, 2)
    assert "could not keep up with 100 records/s: it was 500 ms late" in report(found)


def test_json_holds_the_same() -> None:
    found = json.loads(json.dumps(as_json(outcome(sent=103, failures=Counter(Timeout=2)))))
    assert (found["sent"], found["acknowledged"], found["failed"], found["not_acknowledged"]) == (103, 100, 2, 1)
    assert found["failures"] == {"Timeout": 2}
    assert found["end_to_end_ms"] == {"p50": pytest.approx(69, 0.001), "p99": pytest.approx(118, 0.001)} | {
        "p99.9": 119.0,
        "max": 119.0,
    }


def test_a_run_of_which_nothing_is_known_has_a_report() -> None:
    found = Outcome(100.0, 1.0, asked=100, sent=100)
    assert "100 records are not acknowledged" in report(found)
    assert as_json(found)["acknowledgement_ms"] is None


def test_a_plot_without_matplotlib_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="--plot needs matplotlib"):
        plan(plot=tmp_path / "plot.svg")


def test_a_plot_has_a_line_for_each_latency(tmp_path: Path) -> None:
    check_plot(tmp_path / "plot.svg")
    draw(outcome(), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert all(name in text for name in ("turn to acknowledgement", "end to end", "99.9 %"))
    draw(Outcome(100.0, 1.0), tmp_path / "empty.svg")
    with pytest.raises(ConfigError, match="there is no folder"):
        check_plot(tmp_path / "none" / "plot.svg")
    with pytest.raises(ConfigError, match="Is a directory"):
        draw(outcome(), tmp_path)
