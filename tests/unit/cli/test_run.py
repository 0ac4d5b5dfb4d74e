"""`run`: what stops it before it starts, and that the program is reached."""

import json
import os
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


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_program_gives_the_exit_code_and_logs_json_without_secrets(folder: Path, workers: str) -> None:
    command = [sys.executable, "-m", "streamproc", "run", "shop:app", "--workers", workers]
    settings = {"STREAMPROC_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "STREAMPROC_KAFKA__SASL_PASSWORD": "did not"}
    path = os.pathsep.join(filter(None, sys.path))
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **settings, "PYTHONPATH": path}
    )
    assert result.returncode == 2
    messages = {json.loads(line)["message"] for line in result.stderr.splitlines()}
    assert "Kafka at 127.0.0.1:1 *** answer: KafkaConnectionError" in messages
