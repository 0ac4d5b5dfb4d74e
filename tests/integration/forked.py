"""Starts `streamproc` many times a second, each time as a process of its own.

A start by its command line costs half a second of CPU, nearly all of it for imports. Here one process imports
everything once and forks: a start costs a tenth of that, and what runs in the new process is the command itself, with
its own arguments, signals, log and exit code.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "streamproc.service",
    "streamproc.cli.run",
    "streamproc.http.ops",
    "aiokafka.coordinator.assignors.roundrobin",
    "uvloop",
)


class Nursery:
    """The process that forks. When it ends, so do the processes it started."""

    def __init__(self, *modules: str, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forked", *modules],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._codes: dict[int, int] = {}

    def start(self, arguments: Sequence[str], log: Path) -> int:
        """Runs `streamproc` with these arguments; returns its process id. What it says goes to `log`."""
        return int(self._ask({"arguments": arguments, "log": str(log)}))

    def exit_code(self, pid: int) -> int | None:
        """Returns how a process ended, minus the number of the signal that killed it; None while it runs."""
        if pid not in self._codes:
            code = self._ask({"pid": pid})
            if code is None:
                return None
            self._codes[pid] = code
        return self._codes[pid]

    def _ask(self, question: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def answer() -> None:
    """Forks and tells of exit codes as it is asked to on standard input; returns in each new process."""
    children: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        if "arguments" in question:
            sys.stdout.flush()
            child = os.fork()
            if not child:
                become(question["arguments"], question["log"])
                return
            children.add(child)
            print(child, flush=True)
        else:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            children.discard(pid)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    sys.exit()


def become(arguments: Sequence[str], log: str) -> None:
    """Takes the arguments, input and outputs of a command that was just started."""
    sys.argv[1:] = arguments
    for descriptor, path in ((0, os.devnull), (1, os.devnull), (2, log)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)


if __name__ == "__main__":
    for name in (*PRELOADED, *sys.argv[1:]):
        importlib.import_module(name)
    answer()

    from streamproc.cli import main

    main(prog_name="streamproc")
