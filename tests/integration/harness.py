"""Runs the service as a process of its own and looks at what it did, from outside."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamproc import Event
from streamproc.testing import envelope

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[2]
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the function wrote it down; `ended` is 0 where it did not end. Times in seconds."""

    key: str
    n: int
    pid: int
    began: float
    ended: float


class Service:
    """A `streamproc run` of the test application, or of another one."""

    def __init__(
        self, folder: Path, bootstrap: str, topic: str, *, env: Mapping[str, str] = NOTHING, **settings: object
    ) -> None:
        self.effects = folder / "effects"
        self.log = folder / f"service-{time.monotonic_ns()}.log"
        self.group = str(settings.pop("group", "test"))
        app = str(settings.pop("app", "tests.integration.shop:app"))
        only = ["--only", str(settings.pop("only"))] if "only" in settings else []
        chosen = {
            "kafka.bootstrap_servers": bootstrap,
            "kafka.group_id": self.group,
            "kafka.session_timeout_s": 6,
            "stream.topics": topic,
            "ops.listen": "127.0.0.1:0",
            "log.format": "json",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        sets = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamproc", "run", app, *only, *sets],
            cwd=ROOT,
            env={**os.environ, "EFFECTS": str(self.effects), **env},
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("wb"),
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    def logged(self) -> list[dict[str, Any]]:
        """Its log so far; a line that is no JSON is an empty object with `raw`."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) if line.startswith("{") else {"raw": line, "message": ""} for line in lines]

    async def ready(self) -> str:
        """Waits until partitions are assigned; returns the address of its operations server."""
        await until(lambda: bool(self.address()) or self._ended(), "the service listens")
        address = self.address()
        await until(lambda: self._ended() or get(f"http://{address}/readyz")[0] == 200, "the service is ready")
        self._ended()
        return address

    def _ended(self) -> bool:
        if self.has_ended:
            raise AssertionError(f"the service ended with {self._process.returncode}:\n{self.log.read_text()}")
        return False

    def address(self, what: str = "metrics at") -> str:
        """host:port of its operations server (or of its API: "answering"), "" until it listens."""
        return next(iter(self.addresses(what)), "")

    def addresses(self, what: str = "metrics at") -> list[str]:
        """The same of each of its worker processes, so far."""
        messages = [entry["message"] for entry in self.logged()]
        return [text.rpartition("http://")[2] for text in messages if what in text and "http://" in text]

    async def listening(self, what: str = "answering") -> str:
        """Waits until it listens; returns the address."""
        await until(lambda: bool(self.address(what)) or self._ended(), "the service listens")
        return self.address(what)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        """Waits for its end."""
        await until(lambda: self.has_ended, "the service ends")
        return self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return await self.exit_code()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.has_ended:
            self._process.kill()
            self._process.wait()


def get(url: str) -> tuple[int, str]:
    """Status and body of a GET; 0 and "" when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def metrics(address: str) -> dict[str, float]:
    """What an operations server shows: sample, as in `name{label="x"}`, -> value."""
    lines = [line for line in get(f"http://{address}/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition, looking often."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{PATIENCE_S:g} s went by before {what}")
        await asyncio.sleep(0.02)


async def until_true(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """`until` for a condition that asks the broker."""
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{PATIENCE_S:g} s went by before {what}")
        await asyncio.sleep(0.1)


async def publish(bootstrap: str, topic: str, events: Sequence[Any], *, partition: int | None = None) -> None:
    """Writes events in order, keyed by their `key`; bytes are written as they are."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        sent = []
        for number, event in enumerate(events):
            value = envelope(event, event_id=f"e-{number}") if isinstance(event, Event) else event
            key = event.key.encode() if isinstance(event, Event) else None
            sent.append(await producer.send(topic, value, key, partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def committed(admin: AIOKafkaAdminClient, group: str, topic: str) -> dict[int, int]:
    """partition -> committed offset."""
    offsets = await admin.list_consumer_group_offsets(group)
    return {p.partition: meta.offset for p, meta in offsets.items() if p.topic == topic and meta.offset >= 0}


async def read_all(bootstrap: str, topic: str) -> list[Any]:
    """All records of a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for found in (await consumer.getmany(timeout_ms=500)).values():
                records += found
        return records
    finally:
        await consumer.stop()


def calls(effects: Path) -> list[Call]:
    """What the functions wrote down, call by call, in the order of their beginnings."""
    open_calls: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    found: list[Call] = []
    for line in effects.read_text().splitlines() if effects.exists() else ():
        what, key, n, pid, at = line.split()
        name = (key, int(n), int(pid))
        if what == "begin":
            open_calls[name].append(float(at))
        else:
            found.append(Call(key, int(n), int(pid), open_calls[name].pop(0), float(at)))
    for (key, n, pid), begun in open_calls.items():
        found += [Call(key, n, pid, began, 0.0) for began in begun]
    return sorted(found, key=lambda call: call.began)


def duplicates(found: Sequence[Call]) -> dict[tuple[str, int], int]:
    """Records whose call ended more than once."""
    ended = Counter((call.key, call.n) for call in found if call.ended)
    return {record: count for record, count in ended.items() if count > 1}


def check_order(found: Sequence[Call]) -> None:
    """Per key: calls never overlap, and the first calls that ended are in the order of the records."""
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in found:
        if call.ended:
            by_key[call.key].append(call)
    for key, of_key in by_key.items():
        for one, following in pairwise(of_key):
            assert one.ended <= following.began, f"key {key}: calls overlap: {one}, {following}"
        first = list(dict.fromkeys(call.n for call in of_key))
        assert first == sorted(first), f"key {key}: order is broken: {first}"
