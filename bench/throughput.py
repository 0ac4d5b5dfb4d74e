"""What a record costs: the bare client loop, our pipeline with batches, and with one event a call.

All read the same topic of the same broker, in turns, each in a process of its own.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.brokers import Target, say
from bench.generate import SENSORS, Mix, Produced, records
from bench.publish import publish
from bench.table import Progress, table
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import create_topics, delete_topics

PARTITIONS = 4
TIME_LIMIT_S = 300
CONTENDERS = {
    "bare": "bare aiokafka getmany loop, no work, no commits",
    "batch": "streamproc, batches of 500",
    "record": "streamproc, one event a call, order per key",
    "waiting": "streamproc, one event a call that waits 5 ms",
}


def run(target: Target, *, quick: bool) -> dict[str, Any]:
    """Fills a topic, runs each contender some rounds, and returns all results."""
    count, rounds = (400_000, 2) if quick else (2_000_000, 3)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    options = KafkaOptions(bootstrap_servers=[target.bootstrap])
    asyncio.run(create_topics(options, {topic: PARTITIONS, f"{topic}.dlq": PARTITIONS}))
    try:
        bar = Progress("publishing", count)
        readings = _only_readings(count)
        asyncio.run(publish(target.bootstrap, topic, readings, partitions=PARTITIONS, progress=bar.show))
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for number in range(rounds):
            for name in CONTENDERS:
                say(f"round {number + 1} of {rounds}: {CONTENDERS[name]}")
                reads = min(count, 200_000) if name == "waiting" else count
                results[name].append(_contend(name, target.bootstrap, topic, reads))
    finally:
        asyncio.run(delete_topics(options, [topic, f"{topic}.dlq"]))
    return {"broker": target.name, "records": count, "keys": SENSORS, "partitions": PARTITIONS, "rounds": results}


def _only_readings(count: int) -> Iterator[Produced]:
    return records(count, seed=1, mix=Mix(sensor=1.0, order=0.0, user=0.0))


def _contend(name: str, bootstrap: str, topic: str, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.contender", name]
    options = ["--bootstrap", bootstrap, "--topic", topic, "--count", str(count)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=TIME_LIMIT_S, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(result: dict[str, Any]) -> str:
    """The table: medians, and the ratio to the bare loop of the same run."""
    rows = [["", "us CPU/record", "records/s", "x bare", "spread", "peak RSS MB"]]
    base = _median(result, "bare", "cpu_us")
    for name, title in CONTENDERS.items():
        costs = [one["cpu_us"] for one in result["rounds"][name]]
        rows.append(
            [
                title,
                f"{statistics.median(costs):.2f}",
                f"{_median(result, name, 'records_per_s'):,.0f}",
                f"{statistics.median(costs) / base:.2f}",
                f"{min(costs):.2f} to {max(costs):.2f}",
                f"{max(one['rss_mb'] for one in result['rounds'][name]):.0f}",
            ]
        )
    return table(rows)


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The figures a program wants: medians per contender."""
    base = _median(result, "bare", "cpu_us")
    return {
        "broker": result["broker"],
        "records": result["records"],
        "contenders": {
            name: {
                "cpu_us": round(_median(result, name, "cpu_us"), 3),
                "records_per_s": round(_median(result, name, "records_per_s")),
                "ratio_vs_bare_aiokafka": round(_median(result, name, "cpu_us") / base, 3),
                "rss_mb": round(_median(result, name, "rss_mb"), 1),
                "rss_first_half_mb": round(_median(result, name, "rss_first_half_mb"), 1),
                "rss_second_half_mb": round(_median(result, name, "rss_second_half_mb"), 1),
            }
            for name in CONTENDERS
        },
    }


def _median(result: dict[str, Any], name: str, figure: str) -> float:
    return statistics.median(one[figure] for one in result["rounds"][name])
