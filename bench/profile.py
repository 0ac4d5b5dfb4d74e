"""Where a record's time goes: a sampling profile of the whole service, as a table of stages and as a flame graph."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.brokers import Target, say
from bench.contenders import ours
from bench.contest import Contender, Course, measured, run_once
from bench.table import table
from bench.topics import Filling, filled
from bench.usage import processes
from streamproc.errors import ConfigError

MODES = {"throughput": ("batch", 1_000), "per_record": ("record", 1_000), "waiting_handlers": ("waiting", 10_000)}
"""Scenario -> the mode of ours and the number of keys."""
RECORDS = {"throughput": 4_000_000, "per_record": 2_000_000, "waiting_handlers": 500_000}
SAMPLES_PER_S = 250
WRITTEN_WITHIN_S = 60.0
STAGES = {
    "the functions themselves": r"bench/(ours|report)\.py",
    "events: JSON to typed": r"_parse \(streamproc/stream/decode\.py",
    "envelopes: JSON and base64": r"streamproc/stream/envelope\.py",
    "checks of what was decoded": r"streamproc/stream/decode\.py",
    "checksums": r"is_sound \(streamproc/adapters/kafka_batches\.py",
    "values out of record batches": r"streamproc/adapters/kafka_batches\.py",
    "routing and keys": r"streamproc/stream/route\.py",
    "engine: lanes, batches, ledger": r"streamproc/core/",
    "workers": r"streamproc/stream/execute\.py",
    "commits and dead letters": r"streamproc/stream/settle\.py",
    "fetches: the client": r"aiokafka/|asyncio/streams\.py",
    "intake": r"streamproc/(stream/(source|pipeline)|adapters/kafka)\.py",
}
"""Stage -> frames; a sample belongs to the first stage that has one of its frames."""
LOOP = "event loop, sockets and the rest"


def profile(scenario: str, target: Target, folder: Path) -> str:
    """Runs a scenario's contender of ours once to measure and twice under the profiler.

    Returns the table; writes the flame graph to `folder`. Raises ConfigError where py-spy is not installed.
    """
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if spy is None:
        raise ConfigError("the profile needs py-spy, which `make bench` installs")
    mode, keys = MODES[scenario]
    contender = ours(mode)
    folder.mkdir(parents=True, exist_ok=True)
    with filled(target, Filling(RECORDS[scenario], keys=keys), seconds=0) as course:
        say("a round without the profiler")
        cpu_us = float(run_once(contender, course)["cpu_us"])
        stacks, graph = folder / f"profile-{scenario}.txt", folder / f"profile-{scenario}.svg"
        for form, file in (("raw", stacks), ("flamegraph", graph)):
            say(f"under the profiler, for {file.name}")
            _record(spy, contender, course, form=form, file=file)
    shares = by_stage(stacks.read_text().splitlines())
    return f"{_table(scenario, shares, cpu_us)}\nflame graph: {graph}"


def _record(spy: str, contender: Contender, course: Course, *, form: str, file: Path) -> None:
    command = [spy, "record", "--rate", str(SAMPLES_PER_S), "--format", form, "--output", str(file), "--"]
    spied = replace(contender, command=[*command, *contender.command])
    count = course.records_for(contender)
    with measured(spied, course, count=count, warmup=max(1, count // 10)) as measurement:
        measurement.take()
        for pid in processes(measurement.pid)[1:]:
            os.kill(pid, signal.SIGTERM)
        try:
            measurement.wait(WRITTEN_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"py-spy did not write {file} within {WRITTEN_WITHIN_S:g} s") from None


def by_stage(stacks: Iterable[str]) -> Counter[str]:
    """Samples by stage, from lines `frame;frame;... count` with the innermost frame last; imports do not count."""
    found: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        _, loop, below = frames.rpartition("asyncio/runners.py")
        if loop:
            found[next((name for name, pattern in STAGES.items() if re.search(pattern, below)), LOOP)] += int(count)
    return found


def _table(scenario: str, samples: Counter[str], cpu_us: float) -> str:
    total = samples.total() or 1
    rows = [[f"{scenario}: where a record's time goes", "share", "us CPU/record"]]
    rows += [[stage, f"{count / total:.1%}", f"{count / total * cpu_us:.3f}"] for stage, count in samples.most_common()]
    return table([*rows, ["all", "100.0%", f"{cpu_us:.3f}"]])
