"""Publishes events at a steady rate, for trying a service out on one's own cluster.

Open loop: a record is due when its turn comes, whether or not those before were acknowledged, and its time to
acknowledgement counts from then, so that a stall is not hidden by sending less.
"""

import asyncio
import re
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, errors

from bench.generate import Produced, records
from bench.sinks import share
from bench.table import table
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import partition_counts
from streamproc.errors import BrokerError, ConfigError

TICK_S = 0.01
REPORT_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` in records per second for `seconds`; `metrics` is the URL of a service's metrics, "" for none."""

    bootstrap: str
    topic: str
    rate: float
    seconds: float
    metrics: str
    seed: int


def seconds_of(text: str) -> float:
    """A duration such as 90, 90s, 10m or 1h, in seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not found:
        raise ConfigError(f"--for {text}: write seconds, or a number with s, m or h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2] or ""]


def run(plan: Plan) -> str:
    """Publishes, reports each second on standard error, and returns a table."""
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> str:
    if not await partition_counts(KafkaOptions(bootstrap_servers=[plan.bootstrap]), [plan.topic]):
        raise BrokerError(f"no topic {plan.topic!r} on {plan.bootstrap}; create it first")
    producer = AIOKafkaProducer(bootstrap_servers=plan.bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        return await _Load(plan, producer).publish()
    finally:
        await producer.stop()


class _Load:
    def __init__(self, plan: Plan, producer: AIOKafkaProducer) -> None:
        self._plan = plan
        self._producer = producer
        self._latencies_ms: list[float] = []
        self._failed = 0
        self._sent = 0

    async def publish(self) -> str:
        plan, loop = self._plan, asyncio.get_running_loop()
        source = records(int(plan.rate * plan.seconds), plan.seed)
        began = loop.time()
        report_at = began + REPORT_S
        while (elapsed := loop.time() - began) < plan.seconds:
            await self._send_due(source, int(elapsed * plan.rate), began)
            if loop.time() >= report_at:
                report_at += REPORT_S
                self._report(await asyncio.to_thread(_backlog, plan.metrics))
            await asyncio.sleep(TICK_S)
        await self._send_due(source, int(plan.rate * plan.seconds), began)
        await self._producer.flush()
        return self._table(loop.time() - began)

    async def _send_due(self, source: Iterator[Produced], due: int, began: float) -> None:
        while self._sent < due:
            record = next(source)
            turn = began + self._sent / self._plan.rate
            self._sent += 1
            try:
                sent = await self._producer.send(self._plan.topic, record.value, record.key, headers=record.headers)
            except errors.KafkaError:
                self._failed += 1
                continue
            sent.add_done_callback(lambda done, turn=turn: self._acknowledged(done, turn))

    def _acknowledged(self, done: "asyncio.Future[object]", turn: float) -> None:
        if done.cancelled() or done.exception():
            self._failed += 1
        else:
            self._latencies_ms.append((asyncio.get_running_loop().time() - turn) * 1000)

    def _report(self, backlog: str) -> None:
        waiting = self._sent - self._failed - len(self._latencies_ms)
        text = f"sent {self._sent:,}, not acknowledged {waiting:,}, failed {self._failed:,}{backlog}"
        print(text, file=sys.stderr, flush=True)

    def _table(self, seconds: float) -> str:
        latencies = sorted(self._latencies_ms)
        rows = [
            ["sent", f"{self._sent:,}"],
            ["acknowledged", f"{len(latencies):,}"],
            ["failed", f"{self._failed:,}"],
            ["records/s", f"{len(latencies) / seconds:,.0f}"],
            *(
                [f"from turn to acknowledgement, p{part * 100:g} ms", f"{share(latencies, part):,.1f}"]
                for part in (0.5, 0.99, 0.999)
            ),
        ]
        return table(rows)


def _backlog(url: str) -> str:
    if not url:
        return ""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError as error:
        return f", no metrics ({error})"
    backlog = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("streamproc_backlog_records{"))
    return f", backlog {backlog:,.0f}"
