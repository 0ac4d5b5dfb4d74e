"""`streamproc run handlers.app:app` as a process, as a person would start it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamproc.errors import BrokerError

READY_S = 60.0
LOOK_S = 0.1


def command(*arguments: str, flags: Mapping[str, str]) -> list[str]:
    """A command line of streamproc with settings."""
    sets = [part for name, value in flags.items() for part in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "streamproc", *arguments, *sets]


def environment() -> dict[str, str]:
    """This one's, without settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STREAMPROC_")}


class Service:
    """One worker of the application, started at once; `log` is the file its log goes to."""

    def __init__(self, log: Path, flags: Mapping[str, str]) -> None:
        self._log = log
        sets = {"ops.listen": "127.0.0.1:0", "http.listen": "127.0.0.1:0", "log.format": "json", **flags}
        line = command("run", "handlers.app:app", flags=sets)
        with log.open("wb") as output:
            self._process = subprocess.Popen(line, stderr=output, env=environment())
        self.metrics_address = ""
        self.api_address = ""

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Ends it without a chance to do anything."""
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        """Raises BrokerError when it has ended."""
        if self._process.poll() is not None:
            last = self._log.read_text().splitlines()[-1:]
            raise BrokerError(f"the service ended with {self._process.returncode}: {' '.join(last)[:500]}")

    def wait_until_listening(self) -> None:
        """Waits until it answers requests and has partitions."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self.check()
            for line in self._log.read_text().splitlines():
                before, _, address = line.partition('"message":"')[2].partition('"')[0].rpartition("http://")
                if "metrics at" in before:
                    self.metrics_address = address
                elif "answering" in before:
                    self.api_address = address
            if self.metrics_address and self.api_address and self.partitions():
                return
            time.sleep(LOOK_S)
        raise BrokerError(f"the service was not ready within {READY_S:g} s")

    def partitions(self) -> list[dict[str, Any]]:
        """The state of each of its partitions; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}/debug/partitions", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)
                return found
        except OSError:
            return []
