"""Which Kafka to run on: `auto`, `embedded`, `docker`, `memory`, or an address."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamproc.adapters.broker import start_broker, start_docker_broker
from streamproc.errors import BrokerError

CONFIGURED = "STREAMPROC_KAFKA__BOOTSTRAP_SERVERS"


@dataclass(frozen=True, slots=True)
class Target:
    """A broker to use. `bootstrap` is "" for the broker in memory."""

    name: str
    bootstrap: str


NO_KAFKA = Target("none", "")
"""For work that needs none."""


def say(message: str) -> None:
    """Progress, on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def opened(choice: str, data_dir: Path) -> Iterator[Target]:
    """The broker of a choice, stopped at the end if it was started here.

    `auto` is a configured one, else the embedded one, else (it can't be fetched) the one in memory. Raises BrokerError.
    """
    configured = os.environ.get(CONFIGURED, "")
    if choice == "auto" and configured:
        choice = configured
    if choice == "memory":
        yield Target("memory", "")
    elif choice == "docker":
        with start_docker_broker(progress=say) as container:
            yield Target(f"apache-kafka {container.version}", container.bootstrap)
    elif choice in ("auto", "embedded"):
        yield from _embedded(data_dir, or_memory=choice == "auto")
    else:
        yield Target(f"kafka at {choice}", choice)


def _embedded(data_dir: Path, *, or_memory: bool) -> Iterator[Target]:
    try:
        broker = start_broker(data_dir=data_dir, progress=say)
    except BrokerError as error:
        if not or_memory:
            raise
        say(f"{error}\nNO KAFKA: going on with the broker in memory, which is no proof of anything but the functions")
        yield Target("memory", "")
        return
    try:
        with broker:
            yield Target(f"apache-kafka {broker.version}", broker.bootstrap)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
