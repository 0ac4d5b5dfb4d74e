"""The load generator that users run, against the whole service: an open loop, latencies from each record's turn."""

import time
import urllib.error
import urllib.request

from bench.brokers import Target, say
from bench.contenders import ours
from bench.contest import Contender, ContenderError, Results, running
from bench.generate import Mix
from bench.load import Plan
from bench.load import run as load
from bench.plots import bars
from bench.scenario import Column, Scenario, figure
from bench.topics import PLAIN, empty
from streamproc.adapters.broker_files import free_port

RATES = (5_000, 20_000, 50_000)
READY_S = 30.0


def run(target: Target, quick: bool, results: Results) -> None:
    """Each rate on a service and a topic of its own."""
    for rate in RATES[1:2] if quick else RATES:
        port = free_port()
        contender = ours("record", f"{rate:,} records/s", name=f"streamproc-{rate}", ops=port)
        say(contender.title)
        with empty(target, PLAIN.partitions) as course, running(contender, course):
            figures = _loaded(contender, course.bootstrap, course.topic, port, seconds=4.0 if quick else 15.0)
        results.contenders[contender.name] = contender
        results.rounds[contender.name] = [figures]


def _loaded(contender: Contender, bootstrap: str, topic: str, port: int, *, seconds: float) -> dict[str, float]:
    metrics = f"http://127.0.0.1:{port}/metrics"
    _wait_until_ready(f"http://127.0.0.1:{port}/readyz")
    rate = float(contender.name.partition("-")[2])
    mix = Mix(sensor=1.0, order=0.0, user=0.0, numbered=False)
    found = load(Plan(bootstrap, topic, rate, seconds, mix, metrics=[metrics]))
    if found.interrupted:
        raise KeyboardInterrupt
    latency = found.end_to_end_ms
    return {
        "asked_per_s": rate,
        "reached_per_s": found.rate_reached,
        "unhandled": found.acknowledged - found.handled,
        "backlog_max": found.backlog_max,
        "p50_ms": latency.percentile(0.5),
        "p99_ms": latency.percentile(0.99),
        "p999_ms": latency.percentile(0.999),
        "generator_late_p99_ms": found.lateness_ms.percentile(0.99),
    }


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise ContenderError(f"the service was not ready within {READY_S:g} s")


COLUMNS: dict[str, Column] = {
    "reached/s": figure("reached_per_s", "{:,.0f}"),
    "not handled": figure("unhandled", "{:,.0f}"),
    "largest backlog": figure("backlog_max", "{:,.0f}"),
    "p50 ms": figure("p50_ms", "{:.1f}"),
    "p99 ms": figure("p99_ms", "{:.1f}"),
    "p99.9 ms": figure("p999_ms", "{:.1f}"),
    "generator late, p99": figure("generator_late_p99_ms", "{:.1f}"),
}
SCENARIO = Scenario("load", "end to end, from each record's turn", run, COLUMNS, plot=bars("p99_ms", "p99, ms"))
