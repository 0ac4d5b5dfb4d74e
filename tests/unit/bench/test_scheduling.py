"""The schedules of the idle process, its start, and that only what needs a Kafka starts one."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.brokers import Target
from bench.contest import Results
from bench.programs.scheduling import CRONS, FREE_MINUTES, ZONES, IdleTask, NoProducer, StartMeter, declared, idle
from bench.scenario import COST, Scenario, least_and_most
from streamproc.model import OutRecord
from streamproc.schedule import cron


@pytest.mark.parametrize(
    "now", [datetime(2026, 12, 24, hour, minute, 59, tzinfo=UTC) for hour in (0, 23) for minute in (0, 29, 54, 59)]
)
def test_no_schedule_is_due_soon(now: datetime) -> None:
    firsts = [cron.next_after(one.cron, one.tz, now) for one in declared(200, now)]
    assert min(firsts) > now + timedelta(minutes=FREE_MINUTES)
    assert min(firsts) < now + timedelta(hours=1)
    assert max(firsts) > now + timedelta(days=300)


def test_a_thousand_schedules_are_of_all_kinds() -> None:
    made = declared(1_000, datetime(2026, 1, 1, tzinfo=UTC))
    assert len({one.name for one in made}) == 1_000
    assert len({(one.cron, one.tz) for one in made}) > 500
    assert {one.tz for one in made} == set(ZONES)
    assert {re.sub(r"\d+", "0", one.cron) for one in made} == {re.sub(r"\d+|{\w+}", "0", text) for text in CRONS}


async def test_a_process_starts_twice_and_idles(tmp_path: Path) -> None:
    task = IdleTask("", "", "", count=1, warmup=1, mode="idle", report=tmp_path / "report", schedules=20)
    await idle(StartMeter(task), task)
    warm, done = map(json.loads, (tmp_path / "report").read_text().splitlines())
    assert (warm["event"], done["event"]) == ("warm", "done")
    assert done["first_start_ms"] > 0 < done["later_start_ms"]
    assert done["declare_ms"] > 0


async def test_a_schedule_that_is_due_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="1 records were due"):
        await NoProducer().send([OutRecord("topic", b"", b"")])


def test_the_least_and_the_most_are_those_of_the_rounds() -> None:
    column = least_and_most("cpu_percent")
    assert column({"rounds": [{"cpu_percent": 0.5}, {"cpu_percent": 0.123}, {}]}) == "0.12 to 0.50"
    assert column({"rounds": [{}]}) == ""


@pytest.mark.parametrize(
    ("names", "brokers"),
    [
        (["schedules"], ["none"]),
        (["throughput"], ["kafka at localhost:1"]),
        (["schedules", "throughput"], ["none", "kafka at localhost:1"]),
    ],
)
def test_a_broker_is_only_there_for_what_needs_it(
    names: list[str], brokers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []

    def play(target: Target, quick: bool, results: Results) -> None:
        played.append(target.name)

    def scenario(name: str) -> Scenario:
        return Scenario(name, name, play, COST, on_kafka=name == "throughput")

    monkeypatch.setattr("bench.__main__._scenario", scenario)
    CliRunner().invoke(main, ["run", *names, "--bootstrap", "localhost:1"], catch_exceptions=False)
    assert played == brokers
