"""Topics that are filled for a run and deleted after it."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from bench.brokers import Target
from bench.contest import Course
from bench.generate import Mix, Produced, records
from bench.publish import Shape, publish
from bench.table import Progress
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics, delete_topics

PLAIN = Shape()
DISTINCT = 100_000
MESSAGE_BYTES_MAX = 8_000_000


@dataclass(frozen=True, slots=True)
class Filling:
    """What a topic is filled with: so many readings of so many keys, without headers; a share `bad` cannot be decoded.

    `types` and `padding` as in `Mix`. With `orders`, it is filled with orders instead, each of another id.
    """

    records: int
    keys: int = 1_000
    types: int = 1
    padding: int = 0
    bad: float = 0.0
    shape: Shape = PLAIN
    orders: bool = False

    def made(self) -> list[Produced]:
        """The records; the same few again and again where there are many."""
        if self.orders:
            return list(records(self.records, seed=1, mix=Mix(sensor=0.0, order=1.0, user=0.0)))
        mix = Mix(
            sensor=1.0 - self.bad,
            order=0.0,
            user=0.0,
            sensors=self.keys,
            types=self.types,
            padding=self.padding,
            numbered=False,
        )
        return list(records(min(self.records, max(DISTINCT, self.keys)), seed=1, mix=mix))


@contextmanager
def _topic(target: Target, partitions: int, *, stamped: bool = False) -> Iterator[str]:
    """A topic of a new name and its dead-letter topic; `stamped` by the broker, else by the producer."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    options = KafkaOptions(bootstrap_servers=[target.bootstrap])
    configs = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
    if stamped:
        configs["message.timestamp.type"] = "LogAppendTime"
    asyncio.run(create_topics(options, {topic: partitions, f"{topic}.dlq": partitions}, configs))
    try:
        yield topic
    finally:
        asyncio.run(delete_topics(options, [topic, f"{topic}.dlq"]))


@contextmanager
def empty(target: Target, partitions: int) -> Iterator[Course]:
    """A topic of a new name without records, and its dead-letter topic; deleted at the end."""
    with _topic(target, partitions) as topic:
        yield Course(target.bootstrap, topic, 0, 0)


@contextmanager
def filled(target: Target, filling: Filling, *, seconds: float) -> Iterator[Course]:
    """A topic of a new name that holds these records, and its dead-letter topic; deleted at the end."""
    with _topic(target, filling.shape.partitions) as topic:
        bar = Progress(f"publishing {filling.records:,} records of {filling.keys:,} keys", filling.records)
        made = filling.made()
        source = islice(cycle(made), filling.records)
        asyncio.run(
            publish(
                target.bootstrap,
                topic,
                source,
                shape=filling.shape,
                progress=bar.show,
            )
        )
        good = sum(one.expected == "ok" for one in made) * filling.records // len(made)
        yield Course(target.bootstrap, topic, good, seconds)


@contextmanager
def flowing(target: Target, *, rate: int, seconds: float, warmup_s: float) -> Iterator[Course]:
    """A topic that a producer writes to while it is read, at `rate` records a second for `warmup_s` and `seconds`."""
    count = int(rate * (warmup_s + seconds))
    with _topic(target, PLAIN.partitions, stamped=True) as topic:
        options = {"bootstrap": target.bootstrap, "topic": topic, "rate": rate, "count": count}
        arguments = [f"--{name}={value}" for name, value in {**options, "partitions": PLAIN.partitions}.items()]
        producer = subprocess.Popen([sys.executable, "-m", "bench.steady", *arguments], cwd=Path(__file__).parents[1])
        try:
            yield Course(target.bootstrap, topic, count, seconds, warmup_share=warmup_s / (warmup_s + seconds))
        finally:
            producer.terminate()
            producer.wait()
