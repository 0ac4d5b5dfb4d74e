"""`run`: what stops it before it starts, and that the program is reached."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Streamproc


def test_a_wrong_app_and_wrong_settings_are_told(streamproc: Streamproc) -> None:
    assert "no module 'shpo'" in streamproc("run", "shpo:app").stderr
    result = streamproc("run", "shop:app", "--workers", "0")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: stream.workers: expected a whole number >= 1 and <= 256;")


def test_options_for_no_function_are_told(streamproc: Streamproc) -> None:
    result = streamproc("run", "shop:app", "--set", "functions.mail.batch_size=3")
    assert result.exit_code == 2
    assert "functions.mail: no such function" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_still_importing_ends_when_told(folder: Path, number: signal.Signals) -> None:
    (folder / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "streamproc", "run", "slow:app"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_program_is_reached_logs_json_without_secrets_and_ends_when_told(folder: Path, workers: str) -> None:
    command = [sys.executable, "-m", "streamproc", "run", "shop:app", "--workers", workers, "--set", "ops.listen="]
    settings = {"STREAMPROC_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "STREAMPROC_KAFKA__SASL_PASSWORD": "did not"}
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, **settings, "PYTHONPATH": path}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        lines = (json.loads(line)["message"] for line in process.stderr)
        told = next(line for line in lines if "waiting" in line)
        process.send_signal(signal.SIGTERM)
        list(lines)
        assert process.wait(60) == 0
    assert told == "waiting for Kafka at 127.0.0.1:1: *** answer: ConnectionRefusedError"
