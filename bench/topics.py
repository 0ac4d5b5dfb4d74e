"""Topics that are filled for a run and deleted after it."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.brokers import Target
from bench.contest import Course
from bench.generate import Mix, records
from bench.publish import publish
from bench.table import Progress
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics, delete_topics

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Filling:
    """What a topic is filled with: so many sensor readings of so many keys, without headers."""

    records: int
    keys: int = 1_000
    partitions: int = PARTITIONS


@contextmanager
def _topic(target: Target, partitions: int, *, stamped: bool = False) -> Iterator[str]:
    """A topic of a new name and its dead-letter topic; `stamped` by the broker, else by the producer."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    options = KafkaOptions(bootstrap_servers=[target.bootstrap])
    configs = {"message.timestamp.type": "LogAppendTime"} if stamped else {}
    asyncio.run(create_topics(options, {topic: partitions, f"{topic}.dlq": partitions}, configs))
    try:
        yield topic
    finally:
        asyncio.run(delete_topics(options, [topic, f"{topic}.dlq"]))


@contextmanager
def filled(target: Target, filling: Filling, *, seconds: float) -> Iterator[Course]:
    """A topic of a new name that holds these records, and its dead-letter topic; deleted at the end."""
    with _topic(target, filling.partitions) as topic:
        bar = Progress(f"publishing {filling.records:,} records of {filling.keys:,} keys", filling.records)
        mix = Mix(sensor=1.0, order=0.0, user=0.0, sensors=filling.keys, numbered=False)
        made = records(filling.records, seed=1, mix=mix)
        asyncio.run(publish(target.bootstrap, topic, made, partitions=filling.partitions, progress=bar.show))
        yield Course(target.bootstrap, topic, filling.records, seconds)


@contextmanager
def flowing(target: Target, *, rate: int, seconds: float, warmup_s: float) -> Iterator[Course]:
    """A topic that a producer writes to while it is read, at `rate` records a second for `warmup_s` and `seconds`."""
    count = int(rate * (warmup_s + seconds))
    with _topic(target, PARTITIONS, stamped=True) as topic:
        options = {"bootstrap": target.bootstrap, "topic": topic, "rate": rate, "count": count}
        arguments = [f"--{name}={value}" for name, value in {**options, "partitions": PARTITIONS}.items()]
        producer = subprocess.Popen([sys.executable, "-m", "bench.steady", *arguments], cwd=Path(__file__).parents[1])
        try:
            yield Course(target.bootstrap, topic, count, seconds, warmup_share=warmup_s / (warmup_s + seconds))
        finally:
            producer.terminate()
            producer.wait()
