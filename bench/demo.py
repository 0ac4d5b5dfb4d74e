"""The whole application on a stream of events, and an account of what became of each."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.brokers import Target, opened, say
from bench.generate import SKUS, STOCK, USERS, Produced, records
from bench.memory_demo import run_in_memory
from bench.publish import Shape, publish
from bench.sinks import Found, Stored, Verdict, judge, look, read_topic, share
from bench.table import Progress, table
from handlers.seed import seed
from handlers.sensor_reading import ALERTS
from handlers.services import open_services
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics
from streamproc.errors import BrokerError
from streamproc.settings import load

PARTITIONS = 4
ROOT = Path(__file__).parents[1]
FOLDER = Path("data/demo")
PATIENCE_S = 600.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Demo:
    """One run. See `python -m bench demo --help`."""

    events: int
    broker: str
    keep: bool
    as_json: bool
    seed: int

    def run(self) -> int:
        """Returns the exit code: 0 only if the equation holds."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=FOLDER))
        try:
            return self._run_in(folder)
        except BrokerError:
            if not (folder / "service.log").exists():
                shutil.rmtree(folder)
            raise

    def _run_in(self, folder: Path) -> int:
        with opened(self.broker, folder / "kafka") as target:
            asyncio.run(_seed(folder))
            produced: list[Produced] = []
            began = time.monotonic()
            if target.bootstrap:
                letters, alerts, seconds = self._on_kafka(target, folder, produced)
            else:
                letters, alerts, seconds = run_in_memory(_settings(folder, {}), self._records(produced), self.events)
            found = look(folder / "shop.db", folder / "mail", letters=letters, alerts=alerts)
            verdict = judge(produced, found)
            report = _report(target, verdict, found, seconds)
            print(_text(report, verdict, found))
            say(f"everything is in {folder}; the whole demo took {time.monotonic() - began:.1f} s")
            if self.as_json:
                print(json.dumps(report))
            return 0 if verdict.holds else 1

    def _records(self, produced: list[Produced]) -> Iterator[Produced]:
        for record in records(self.events, self.seed):
            produced.append(record)
            yield record

    def _on_kafka(
        self, target: Target, folder: Path, produced: list[Produced]
    ) -> tuple[list[Stored], list[Stored], float]:
        names = _topics(own_broker=target.name.startswith("apache-kafka"))
        options = KafkaOptions(bootstrap_servers=[target.bootstrap])
        wanted = {names["events"]: PARTITIONS, f"{names['events']}.dlq": PARTITIONS, ALERTS: PARTITIONS}
        asyncio.run(create_topics(options, wanted))
        flags = {
            "kafka.bootstrap_servers": target.bootstrap,
            "stream.topics": names["events"],
            "kafka.group_id": names["group"],
        }
        with _Service(folder, flags) as service:
            service.wait_until_ready()
            began, since_ms = time.monotonic(), time.time() * 1000
            publishing = self._records(produced)
            asyncio.run(publish(target.bootstrap, names["events"], publishing, shape=Shape(PARTITIONS)))
            service.wait_until_done(self.events)
            seconds = time.monotonic() - began
            if self.keep:
                service.keep()
        letters = asyncio.run(read_topic(target.bootstrap, f"{names['events']}.dlq"))
        return letters, asyncio.run(read_topic(target.bootstrap, ALERTS, since_ms=since_ms)), seconds


def _topics(*, own_broker: bool) -> dict[str, str]:
    mark = "" if own_broker else f"-demo-{uuid.uuid4().hex[:8]}"
    return {"events": f"events{mark}", "group": f"shop{mark}"}


def _settings(folder: Path, flags: dict[str, str]) -> Any:
    stores = {"store.url": f"sqlite:///{folder}/shop.db", "mail.directory": str(folder / "mail")}
    return load(None, {}, flags={**stores, **flags}).settings


async def _seed(folder: Path) -> None:
    async with open_services(_settings(folder, {})) as services:
        await seed(services, users=USERS, skus=SKUS, quantity=STOCK)


class _Service:
    """`streamproc run handlers.app:app`, as a person would start it."""

    def __init__(self, folder: Path, flags: dict[str, str]) -> None:
        self._log = folder / "service.log"
        stores = {"store.url": f"sqlite:///{folder}/shop.db", "mail.directory": str(folder / "mail")}
        sets = {**flags, **stores, "ops.listen": "127.0.0.1:0", "log.format": "json"}
        arguments = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "streamproc", "run", "handlers.app:app", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMPROC_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log, env=environment)
        self._address = ""

    def __enter__(self) -> "_Service":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _check(self) -> None:
        if self._process.poll() is not None:
            last = self._log.read_text().splitlines()[-1:]
            raise BrokerError(f"the service ended with {self._process.returncode}: {' '.join(last)[:500]}")

    def wait_until_ready(self) -> None:
        """Waits for its partitions."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._check()
            for line in self._log.read_text().splitlines():
                if "metrics at http://" in line:
                    self._address = json.loads(line)["message"].rpartition("http://")[2]
            if self._address and len(self._partitions()) == PARTITIONS:
                say(f"the service is up, metrics at http://{self._address}/metrics")
                return
            time.sleep(LOOK_S)
        raise BrokerError("the service was not ready within 60 s")

    def wait_until_done(self, events: int) -> None:
        """Waits until everything is settled and committed, with a progress bar."""
        bar = Progress("handling", events)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self._check()
            partitions = self._partitions()
            committed = sum(one["committed"] for one in partitions)
            bar.show(sum(one["done"] for one in partitions))
            if committed >= events:
                bar.show(events)
                return
            time.sleep(LOOK_S)
        raise BrokerError(f"not done within {PATIENCE_S:g} s")

    def _partitions(self) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://{self._address}/debug/partitions", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)
                return found
        except OSError:
            return []

    def keep(self) -> None:
        """Stays up until Ctrl-C."""
        say(f"staying up: http://{self._address}/metrics and /debug/partitions; Ctrl-C ends it")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("")


def _report(target: Target, verdict: Verdict, found: Found, seconds: float) -> dict[str, Any]:
    return {
        "broker": target.name,
        "produced": verdict.produced,
        "handled": dict(verdict.handled),
        "dead_lettered": dict(verdict.dead_lettered),
        "filtered": verdict.filtered,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "records_per_s": round(verdict.produced / seconds),
        "latency_ms": {
            "p50": round(share(found.latencies_ms, 0.5), 1),
            "p99": round(share(found.latencies_ms, 0.99), 1),
        },
        "seconds": round(seconds, 2),
    }


def _text(report: dict[str, Any], verdict: Verdict, found: Found) -> str:
    rows = [["handled", ""], *([f"  {kind}", f"{count:,}"] for kind, count in report["handled"].items())]
    rows += [
        ["dead letters", ""],
        *([f"  {reason}", f"{count:,}"] for reason, count in report["dead_lettered"].items()),
    ]
    rows += [
        ["emails written", f"{found.emails:,}"],
        ["pieces taken from stock", f"{found.pieces_taken:,}"],
        ["temperature alerts", f"{found.alerts.total():,}"],
        ["records/s", f"{report['records_per_s']:,}"],
        ["from event to stored, p50 / p99 ms", f"{report['latency_ms']['p50']:,} / {report['latency_ms']['p99']:,}"],
    ]
    handled, dead = sum(verdict.handled.values()), sum(verdict.dead_lettered.values())
    equation = (
        f"produced {verdict.produced:,} = handled {handled:,} + dead letters {dead:,} + filtered {verdict.filtered:,}"
    )
    checks = f"lost {verdict.lost}, duplicated {verdict.duplicated}, in the wrong sink {verdict.wrong}"
    checks += f", alerts missing {verdict.alerts_missing}"
    holds = "holds" if verdict.holds else "DOES NOT HOLD"
    return (
        f"\n{report['broker']}\n{table(rows)}\n\n  {equation}\n  {checks}: the equation {holds}, counted in the sinks\n"
    )
