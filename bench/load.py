"""Publishes events at a steady rate and measures what becomes of them, for trying a service out on one's own cluster.

Open loop: each record has its turn, whether or not those before were acknowledged, and its latencies count from then;
so a stall of the broker, the service or the generator itself shows in them and is not hidden by sending less.
"""

import asyncio
import logging
import re
import signal
import sys
import zlib
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from time import monotonic

import uvloop
from aiokafka import AIOKafkaProducer

from bench.generate import Mix, Produced, records
from bench.histogram import Histogram
from bench.load_observer import Handling, Observer
from bench.load_report import Outcome, check_plot
from bench.load_writer import BATCH_BYTES_MAX, Writer
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import partition_counts
from streamproc.errors import BrokerError, ConfigError

TICK_S = 0.002
CHUNK_RECORDS = 250
"""What is made at most before acknowledgements and polls are looked at."""
RATE_MAX = 1e9
UNACKNOWLEDGED_MAX = 300_000
"""About 100 MB. With more the generator waits; its records keep their turns."""
REPORT_S = 1.0
OVERTIME_S = 1.0
ANSWER_S = 10.0
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` in records per second for `seconds`; `metrics` are URLs, one per worker process, none to observe nothing.

    After the last record its acknowledgement and its handling are waited for `patience_s`.
    """

    bootstrap: str
    topic: str
    rate: float
    seconds: float
    mix: Mix
    metrics: Sequence[str] = ()
    seed: int = 1
    plot: Path | None = None
    patience_s: float = 30.0

    def __post_init__(self) -> None:
        """Raises ConfigError when there is nothing to send or the plot cannot be drawn."""
        if not 0 < self.rate <= RATE_MAX:
            raise ConfigError(f"--rate {self.rate:g}: write how many records per second, more than 0")
        if self.plot:
            check_plot(self.plot)


def seconds_of(text: str) -> float:
    """A duration such as 90, 90s, 10m or 1h, in seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not found or not float(found[1]):
        raise ConfigError(f"--for {text}: write seconds, or a number with s, m or h, more than 0")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2] or ""]


def mix_of(text: str) -> Mix:
    """Shares of event types such as sensor=0.7,order=0.2,user=0.1; the rest is bad records. Raises ConfigError."""
    found = re.fullmatch(r"(?:(?:sensor|order|user)=\d*\.?\d+(?:,(?!$)|$))+", text)
    pairs = [part.split("=") for part in text.split(",")] if found else []
    shares = {"sensor": 0.0, "order": 0.0, "user": 0.0, **{name: float(share) for name, share in pairs}}
    total = sum(shares.values())
    if not found or len({name for name, _ in pairs}) < len(pairs):
        raise ConfigError(f"--mix {text}: write shares as in sensor=0.7,order=0.2,user=0.1")
    if total > 1 + 1e-9:
        raise ConfigError(f"--mix {text}: the shares sum to {total:g}, which is more than 1")
    if total > 1 - 1e-9:
        shares["user"] += 1e-6  # 0.7 + 0.2 + 0.1 is less than 1 in binary, and the rest is bad records
    return Mix(sensor=shares["sensor"], order=shares["order"], user=shares["user"], numbered=False)


def run(plan: Plan) -> Outcome:
    """Publishes, and reports each second on standard error; Ctrl-C breaks it off. Raises ConfigError, BrokerError."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return uvloop.run(_interruptible(plan))


async def _interruptible(plan: Plan) -> Outcome:
    stop = asyncio.Event()
    async with opened(plan) as load:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        return await load.run(stop)


@asynccontextmanager
async def opened(plan: Plan) -> "AsyncIterator[Load]":
    """A load with all it needs connected. Raises ConfigError and BrokerError."""
    partitions = await _partitions(plan)
    observer = Observer(plan.metrics, plan.topic)
    producer = AIOKafkaProducer(bootstrap_servers=plan.bootstrap, acks="all", max_batch_size=BATCH_BYTES_MAX)
    try:
        await observer.start(partitions)
        await producer.start()
        yield Load(plan, producer, partitions, observer)
    finally:
        observer.close()
        await _stop(producer)


async def _partitions(plan: Plan) -> int:
    try:
        async with asyncio.timeout(ANSWER_S):
            counts = await partition_counts(KafkaOptions(bootstrap_servers=[plan.bootstrap]), [plan.topic])
    except TimeoutError:
        raise BrokerError(f"Kafka at {plan.bootstrap} did not answer within {ANSWER_S:g} s") from None
    except ValueError:
        raise ConfigError(f"--bootstrap {plan.bootstrap}: write it as HOST:PORT") from None
    if not counts:
        raise BrokerError(f"no topic {plan.topic!r} on {plan.bootstrap}; create it first")
    return counts[plan.topic]


async def _stop(producer: AIOKafkaProducer) -> None:
    """Ends the producer, also when the broker does not take what it holds."""
    try:
        async with asyncio.timeout(STOP_S):
            await producer.stop()
    except TimeoutError:
        await producer.client.close()


class _Latencies:
    """Those of the second that runs, and those of all seconds; milliseconds."""

    def __init__(self, total: Histogram) -> None:
        self._total = total
        self._second = Histogram()

    def add(self, at: float, turns: Iterable[float]) -> None:
        """What became due at `turns` ended at this time; both in seconds."""
        add = self._second.add
        for turn in turns:
            add(max(0.0, at - turn) * 1000)

    def next_second(self) -> str:
        """The 99th percentile of the second that ends, for people."""
        ended, self._second = self._second, Histogram()
        self._total.merge(ended)
        return f"p99 {ended.percentile(0.99):,.1f} ms" if ended.total else "p99 -"


class Load:
    """One run: makes each record when its turn comes, and follows it to its acknowledgement and its handling."""

    def __init__(self, plan: Plan, producer: AIOKafkaProducer, partitions: int, observer: Observer) -> None:
        self._plan = plan
        self._observer = observer
        self._writers = [Writer(producer, plan.topic, number, self) for number in range(partitions)]
        self._handling = [Handling() for _ in range(partitions)]
        self.found = Outcome(plan.rate, plan.seconds, asked=max(1, round(plan.rate * plan.seconds)))
        self.found.observed = bool(plan.metrics)
        self._to_acknowledgement = _Latencies(self.found.acknowledgement_ms)
        self._end_to_end = _Latencies(self.found.end_to_end_ms)
        self._began = self._acknowledged_at = 0.0

    async def run(self, stop: asyncio.Event) -> Outcome:
        """Runs to the end of the plan, or until `stop` is set."""
        self._began = self._acknowledged_at = monotonic()
        async with asyncio.TaskGroup() as group:
            beside = (*(writer.send() for writer in self._writers), self._observer.watch(self._reached), self._report())
            tasks = [group.create_task(one) for one in beside]
            await self._make(stop)
            made_s = monotonic() - self._began
            await self._settled(stop)
            for task in tasks:
                task.cancel()
        found = self.found
        self._to_acknowledgement.next_second()
        self._end_to_end.next_second()
        found.interrupted = stop.is_set()
        planned_s = self._plan.seconds if found.sent == found.asked else made_s
        found.took_s = max(self._acknowledged_at - self._began, planned_s)
        found.behind_before = self._observer.behind
        found.lost_sight = found.observed and not self._observer.answers
        found.poll_ms = self._observer.intervals_ms
        found.dead_letters = await self._observer.dead_letters()
        return found

    async def _make(self, stop: asyncio.Event) -> None:
        """Makes what is due; ends with the last record, or soon after the time for it."""
        plan, found = self._plan, self.found
        source = records(found.asked, plan.seed, plan.mix)
        ends_at = self._began + plan.seconds + OVERTIME_S
        held = False
        while found.sent < found.asked and not stop.is_set() and (now := monotonic()) < ends_at:
            due = min(found.asked, int((now - self._began) * plan.rate) + 1)
            if found.unacknowledged >= UNACKNOWLEDGED_MAX:
                found.held_back = held = True
                await asyncio.sleep(TICK_S)
                continue
            self._add(islice(source, min(due - found.sent, CHUNK_RECORDS)), is_timed=not held)
            held = held and found.sent < due
            await asyncio.sleep(0 if found.sent < due else TICK_S)

    def _add(self, source: Iterable[Produced], *, is_timed: bool) -> None:
        found, rate, began = self.found, self._plan.rate, self._began
        writers, number = self._writers, self.found.sent
        first, partitions = number, len(writers)
        for record in source:
            writers[zlib.crc32(record.key or b"") % partitions].add(record, began + number / rate)
            number += 1
        found.sent = number
        for writer in writers:
            writer.flush()
        if is_timed and number > first:
            found.lateness_ms.add(max(0.0, monotonic() - began - first / rate) * 1000, number - first)

    async def _settled(self, stop: asyncio.Event) -> None:
        """Waits until all is acknowledged and handled, as long as patience lasts."""
        found, until = self.found, monotonic() + self._plan.patience_s
        while not stop.is_set() and monotonic() < until:
            unhandled = self._observer.answers and found.handled < found.acknowledged
            if not found.unacknowledged and not unhandled:
                return
            await asyncio.sleep(TICK_S)

    def acknowledged(self, partition: int, base: int, turns: "array[float]") -> None:
        """A batch is written."""
        self._acknowledged_at = monotonic()
        self.found.acknowledged += len(turns)
        self._to_acknowledgement.add(self._acknowledged_at, turns)
        self._handled(self._handling[partition].acknowledged(base, turns))

    def failed(self, turns: "array[float]", error: BaseException) -> None:
        """A batch is not written."""
        self.found.failures[type(error).__name__] += len(turns)

    def _reached(self, partition: int, done: int, at: float) -> None:
        if partition < len(self._handling):
            self._handled(self._handling[partition].reached(done, at))
            self.found.backlog_max = max(self.found.backlog_max, self.found.backlog)

    def _handled(self, parts: Iterable[tuple[float, Sequence[float]]]) -> None:
        for at, turns in parts:
            self.found.handled += len(turns)
            self._end_to_end.add(at, turns)

    async def _report(self) -> None:
        """Writes a line to standard error each second."""
        for second in count(1):
            await asyncio.sleep(max(0.0, self._began + second * REPORT_S - monotonic()))
            found = self.found
            known = [f"sent {found.sent:,}", f"not acknowledged {found.unacknowledged:,}", f"failed {found.failed:,}"]
            to_acknowledgement, end_to_end = self._to_acknowledgement.next_second(), self._end_to_end.next_second()
            if self._observer.answers:
                known += [f"backlog {found.backlog:,}", f"{end_to_end} end to end"]
            else:
                known += [f"{to_acknowledgement} to acknowledgement"]
            print(", ".join(known), file=sys.stderr, flush=True)
