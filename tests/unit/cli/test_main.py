"""The command as a whole: help, exit codes, and what is imported before a command is known."""

import subprocess
import sys

import click
import pytest

from streamproc.cli import main
from tests.unit.cli.conftest import Streamproc

NO_ANSWER = "Kafka at 127.0.0.1:1 did not answer: ConnectionRefusedError"
HEAVY = {"aiokafka", "asyncio", "prometheus_client", "starlette", "uvicorn", "rich"}


def commands() -> dict[str, click.Command]:
    """Every command that can be typed, by its words."""
    ctx, found = click.Context(main), {}
    for name in main.list_commands(ctx):
        command = main.get_command(ctx, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
    return found


@pytest.mark.parametrize("words", commands())
def test_help_of_every_command_shows_an_example(streamproc: Streamproc, words: str) -> None:
    result = streamproc(*words.split(), "--help")
    assert result.exit_code == 0
    assert "Example:\n" in result.stdout
    assert f"streamproc {words.split()[0]}" in result.stdout.split("Example:")[1]


def test_help_lists_every_command_with_a_whole_sentence(streamproc: Streamproc) -> None:
    result = streamproc("--help")
    for words in commands():
        assert f"\n  {words.split()[0]} " in result.stdout
    assert "..." not in result.stdout.split("Commands:")[1]


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from streamproc.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert HEAVY & set(result.stdout.splitlines()[-1].split()) == set()


def test_an_unknown_command_is_a_usage_error(streamproc: Streamproc) -> None:
    result = streamproc("rnu")
    assert result.exit_code == 2
    assert "No such command 'rnu'" in result.stderr


def test_a_configuration_error_is_told_without_a_traceback(streamproc: Streamproc) -> None:
    result = streamproc("config", "--set", "kafka.group=x", "--set", "stream.workers=0")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: --set kafka.group: no such setting; did you mean kafka.group_id?\n"
        "stream.workers: expected a whole number >= 1 and <= 256; it was set by --set stream.workers\n"
    )


def test_set_without_a_value_is_told(streamproc: Streamproc) -> None:
    result = streamproc("config", "--set", "kafka.group_id")
    assert result.exit_code == 2
    assert "write it as NAME=VALUE" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["lag"],
        ["dlq", "ls"],
        ["dlq", "ls", "events.dlq", "--json"],
        ["dlq", "show", "events.dlq", "0", "1"],
        ["publish", "events"],
        ["publish", "--raw"],
    ],
)
def test_a_broker_that_does_not_answer_is_one_sentence(streamproc: Streamproc, arguments: list[str]) -> None:
    result = streamproc(*arguments, "--set", "kafka.bootstrap_servers=127.0.0.1:1", input='{"type": "x"}\n')
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "records sent" not in line] == [f"Error: {NO_ANSWER}"]


def test_it_is_a_module_too_and_the_client_logs_nothing() -> None:
    command = [sys.executable, "-m", "streamproc", "lag", "--set", "kafka.bootstrap_servers=127.0.0.1:1"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == f"Error: {NO_ANSWER}\n"
