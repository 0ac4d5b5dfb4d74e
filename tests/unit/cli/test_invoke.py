"""`invoke`: outcome and exit code of one call."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Streamproc


def event(**fields: object) -> str:
    return json.dumps({"type": "order.placed", "orderId": "o-1", **fields})


def test_success_is_ok_and_services_and_settings_are_the_real_ones(streamproc: Streamproc, folder: Path) -> None:
    (folder / "event.json").write_text(event())
    result = streamproc("invoke", "event.json", "--app", "shop:app", "--set", "kafka.group_id=mine")
    assert (result.exit_code, result.stdout) == (0, "mine ['o-1']\nok\n")


def test_a_batch_function_gets_a_batch_of_one(streamproc: Streamproc) -> None:
    reading = '{"type": "sensor.reading", "sensorId": "s-1"}'
    result = streamproc("invoke", "-", "--app", "shop:app", input=reading)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "stored ['s-1']")


@pytest.mark.parametrize(
    ("quantity", "line", "outcome"),
    [
        (
            101,
            "rejected: out_of_stock: none left",
            {"outcome": "rejected", "reason": "out_of_stock", "detail": "none left"},
        ),
        (0, "retry_later: after 30 s", {"outcome": "retry_later", "reason": "after 30 s", "detail": ""}),
        (-1, "failed: ValueError: how many?", {"outcome": "failed", "reason": "ValueError", "detail": "how many?"}),
    ],
)
def test_what_did_not_succeed_is_1(streamproc: Streamproc, quantity: int, line: str, outcome: dict[str, str]) -> None:
    result = streamproc("invoke", "-", "--app", "shop:app", input=event(quantity=quantity))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, line)
    result = streamproc("invoke", "-", "--app", "shop:app", "--json", input=event(quantity=quantity))
    assert json.loads(result.stdout[result.stdout.index("{") :]) == outcome
    assert result.exit_code == 1


def test_what_is_no_event_of_the_app_is_2(streamproc: Streamproc) -> None:
    result = streamproc("invoke", "-", "--app", "shop:app", input='{"type": "nothing"}')
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: this is no event of the app: unknown_type")


def test_a_function_that_does_not_take_the_event_is_2(streamproc: Streamproc) -> None:
    result = streamproc("invoke", "-", "--app", "shop:app", "--function", "store_readings", input=event())
    assert result.exit_code == 2
    assert "no function store_readings takes order.placed" in result.stderr
