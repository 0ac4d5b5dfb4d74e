"""`broker`: a real Apache Kafka on this machine that outlives the command which started it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamproc.cli.common import ask_kafka, json_option, print_json
from streamproc.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from streamproc.adapters.broker import Broker


PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Started:
    """A broker that was started, and when its process began: process ids are given out again."""

    broker: "Broker"
    began: str

    @property
    def runs(self) -> bool:
        """Whether the very process that was started still runs."""
        return process_began(self.broker.pid) == self.began


@click.group()
def broker() -> None:
    """Run a real Apache Kafka on this machine, for development.

    \b
    Example:
      streamproc broker start --port 9092
    """


@broker.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 is a free one.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for topics and log; one in your cache folder when not given.",
)
@click.option("topics", "--topic", multiple=True, help="Make this topic where it is missing; may be repeated.")
def start(port: int, data_dir: Path | None, topics: tuple[str, ...]) -> None:
    """Start the broker and print its address.

    The first start fetches Apache Kafka, 45 MB, into your cache folder. Topics get four partitions. There is one
    broker for each user: where it runs already, its address is printed.

    \b
    Example:
      streamproc broker start --data-dir data/kafka --topic events --topic files
    """
    from streamproc.adapters.broker_files import locked

    home = _home()
    with locked(home):
        if (started := load(home)) and started.runs:
            _check_same(started.broker, port, data_dir)
            click.echo(f"already running as process {started.broker.pid}", err=True)
        else:
            started = _start(home, data_dir or home / "kafka", port)
    if topics:
        _make_topics(started.broker.bootstrap, topics)
    click.echo(started.broker.bootstrap)


def _check_same(running: "Broker", port: int, data_dir: Path | None) -> None:
    """Raises ConfigError where the broker that runs is not the one that was asked for."""
    is_other_port = port and not running.bootstrap.endswith(f":{port}")
    if is_other_port or (data_dir and data_dir.resolve() != running.data_dir.resolve()):
        raise ConfigError(
            f"another broker runs at {running.bootstrap} as process {running.pid}, with its data in"
            f" {running.data_dir}: stop it first, by streamproc broker stop"
        )


def _make_topics(bootstrap: str, topics: Sequence[str]) -> None:
    from streamproc.adapters.kafka_client import KafkaOptions
    from streamproc.adapters.kafka_topics import create_topics

    options = KafkaOptions(bootstrap_servers=[bootstrap])
    made = ask_kafka(create_topics(options, dict.fromkeys(topics, PARTITIONS)))
    click.echo(f"created {', '.join(made)}" if made else "the topics exist", err=True)


def _start(home: Path, data_dir: Path, port: int) -> Started:
    from streamproc.adapters.broker import start_broker
    from streamproc.adapters.broker_files import writing_to

    running = start_broker(data_dir=data_dir, port=port, progress=_progress, detach=True)
    try:
        started = Started(running.info, process_began(running.pid) or "")
        with writing_to(home):
            save(home, started)
    except BaseException:
        running.stop()
        raise
    return started


@broker.command()
def stop() -> None:
    """Stop the broker that `start` started, and no other process.

    \b
    Example:
      streamproc broker stop
    """
    home = _home()
    started = load(home)
    if started and end_process(started.broker.pid, started.began):
        click.echo(f"stopped the broker at {started.broker.bootstrap}, process {started.broker.pid}")
    else:
        click.echo("no broker is running")
    forget(home)


@broker.command()
@json_option
@click.pass_context
def status(ctx: click.Context, *, as_json: bool) -> None:
    """Say whether the broker runs, and where: exit code 0 when it does, 1 when not.

    \b
    Example:
      streamproc broker status --json
    """
    started = load(_home())
    facts = asdict(started.broker) if started and started.runs else {}
    if as_json:
        print_json({"running": bool(facts), **facts})
    elif facts:
        text = "Apache Kafka {version} runs at {bootstrap} as process {pid}, with its data in {data_dir}"
        click.echo(text.format(**facts))
    else:
        click.echo("no broker is running")
    ctx.exit(0 if facts else 1)


def load(home: Path) -> Started | None:
    """Return what `save` wrote to `home`, or None if nothing readable is there."""
    from streamproc.adapters.broker import Broker

    try:
        facts = json.loads((home / "state.json").read_text())
        began = facts.pop("began")
        return Started(Broker(**{**facts, "data_dir": Path(facts["data_dir"])}), began)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(home: Path, started: Started) -> None:
    """Remember a started broker in `home`, whole or not at all."""
    part = home / "state.json.part"
    part.write_text(json.dumps({**asdict(started.broker), "began": started.began}, default=str))
    part.replace(home / "state.json")


def forget(home: Path) -> None:
    """Remove what `save` wrote to `home`, if anything."""
    (home / "state.json").unlink(missing_ok=True)


def end_process(pid: int, began: str, *, timeout_s: float = 15.0) -> bool:
    """End the process `pid` that began at `began`, by force after `timeout_s`; False if it is not there."""
    if process_began(pid) != began:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if process_began(pid) != began:
                return True
            time.sleep(0.03)
    raise BrokerError(f"process {pid} does not end")


def process_began(pid: int) -> str | None:
    """Return when a process began, as a text to compare, or None if there is none or it has ended."""
    if not Path("/proc/self/stat").exists():
        return process_began_ps(pid)
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]


def process_began_ps(pid: int) -> str | None:
    """Do what `process_began` does where there is no /proc, with the program `ps`."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    state, _, began = listed.stdout.strip().partition(" ")
    return None if state[:1] in ("", "Z") else began.strip()


def _home() -> Path:
    from streamproc.adapters.broker_files import cache_dir

    return cache_dir() / "broker"


def _progress(message: str) -> None:
    click.echo(message, err=True)
