"""How long a start takes: the imports, and from the process' start to the first record, with the join of the group."""

import os
import subprocess

from bench.brokers import Target, say
from bench.contenders import bare, ours, peers
from bench.contest import ROOT, Contender, ContenderError, Course, Results, first_record_s
from bench.plots import bars
from bench.scenario import Column, Scenario, figure
from bench.topics import Filling, filled

MODES = ["batch", "record"]


def run(target: Target, quick: bool, results: Results) -> None:
    """Imports in turns, then first records in turns."""
    others, results.left_out = peers(MODES)
    contenders = [bare(), ours("batch"), *others]
    for contender in contenders:
        results.contenders[contender.name] = contender
        results.rounds[contender.name] = []
    _import(contenders, results, rounds=3 if quick else 7)
    with filled(target, Filling(100), seconds=0) as course:
        _start(contenders[:2] if quick else contenders, course, results, rounds=1 if quick else 3)


def _start(contenders: list[Contender], course: Course, results: Results, *, rounds: int) -> None:
    for number in range(rounds):
        for contender in contenders:
            say(f"first record, round {number + 1} of {rounds}: {contender.title}")
            try:
                seconds = first_record_s(contender, course)
            except ContenderError as error:
                results.left_out[contender.name] = str(error)
            else:
                results.rounds[contender.name].append({"start_s": seconds})


def _module(contender: Contender) -> str:
    """The module that is a contender's program, "" for one that is not in Python."""
    _, *rest = contender.command
    if rest[:1] == ["-m"]:
        return rest[1]
    return "main" if rest == ["main.py"] else ""


def _import(contenders: list[Contender], results: Results, *, rounds: int) -> None:
    """Each in turn imports all it needs; the first time, to have the bytecode, does not count."""
    for number in range(rounds + 1):
        say(f"imports, round {number} of {rounds}" if number else "imports: once, to have the bytecode")
        for contender in (one for one in contenders if _module(one)):
            seconds = _seconds(contender)
            if number:
                results.rounds[contender.name].append({"import_ms": seconds * 1e3})


def _seconds(contender: Contender) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    program = f"from time import perf_counter as now; t = now(); import {_module(contender)}; print(now() - t)"
    done = subprocess.run(
        [contender.command[0], "-c", program],
        cwd=contender.folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


COLUMNS: dict[str, Column] = {
    "imports, ms": figure("import_ms", "{:.0f}"),
    "first record, s": figure("start_s"),
}
SCENARIO = Scenario("start", "start", run, COLUMNS, plot=bars("import_ms", "imports, ms"))
