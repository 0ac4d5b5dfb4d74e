"""The measuring itself, with contenders of a few lines."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.contest import Contender, ContenderError, Course, Results, idle, play, run_once, running
from bench.usage import cpu_time_s

BODY = """
import json, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
pipe = open(options["--report"], "w", buffering=1)
def tell(**report): pipe.write(json.dumps(report) + "\\n")
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
burn(0.3)
"""
COURSE = Course("127.0.0.1:1", "topic", records=1_000, seconds=1.0)


def contender(tmp_path: Path, body: str, name: str = "one") -> Contender:
    program = tmp_path / f"{name}.py"
    program.write_text(BODY + body)
    return Contender(name, name, "batch", [sys.executable, str(program)], tmp_path)


def test_only_what_lies_between_the_two_reports_is_measured(tmp_path: Path) -> None:
    body = """
tell(event="warm", records=100)
burn(0.2)
tell(event="done", records=1100, hot=7)
burn(0.3)
"""
    figures = run_once(contender(tmp_path, body), COURSE)
    assert figures["records"] == 1_000
    assert 190 < figures["cpu_us"] < 290
    assert figures["hot"] == 7
    assert figures["rss_mb"] > 1


def test_children_count_too(tmp_path: Path) -> None:
    body = """
import os, signal
ended, end = os.pipe()
child = os.fork()
if not child:
    burn(0.4)
    os.write(end, b".")
    signal.pause()
tell(event="warm", records=0)
os.read(ended, 1)
tell(event="done", records=1000)
signal.pause()
"""
    assert run_once(contender(tmp_path, body), COURSE)["cpu_us"] > 350


def test_one_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="ended with 1: ValueError: no such topic"):
        run_once(contender(tmp_path, 'tell(event="warm", records=1)\nraise ValueError("no such topic")'), COURSE)


def test_one_that_stalls_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.contest.TIME_LIMIT_S", 1.0)
    with pytest.raises(ContenderError, match="not done after 1 s"):
        run_once(contender(tmp_path, 'tell(event="warm", records=1)\ntime.sleep(60)'), COURSE)


def test_who_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    good = contender(tmp_path, 'tell(event="warm", records=1)\ntell(event="done", records=2)', "good")
    bad = contender(tmp_path, "sys.exit(3)", "bad")
    results = Results()
    play([bad, good], COURSE, rounds=2, results=results)
    assert len(results.rounds["good"]) == 2
    assert "bad" not in results.rounds
    assert "ended with 3" in results.left_out["bad"]


def test_slow_contenders_read_less() -> None:
    slow = Contender("slow", "slow", "record", [], Path(), rate=50.0)
    assert Course("", "", records=1_000, seconds=2.0).records_for(slow) == 100
    assert Course("", "", records=60, seconds=2.0).records_for(slow) == 60


def test_the_cpu_time_of_a_process_that_is_gone_is_nothing() -> None:
    assert cpu_time_s(2**22 + 1) == 0.0


def test_memory_of_one_that_idles(tmp_path: Path) -> None:
    assert idle(contender(tmp_path, 'tell(event="warm", records=1)\ntime.sleep(60)'), COURSE, 0.0) > 1


def test_one_that_runs_beside_the_block_is_ended_with_it(tmp_path: Path) -> None:
    body = f'(open({str(tmp_path / "pid")!r}, "w")).write(str(__import__("os").getpid()))\ntime.sleep(60)'
    with running(contender(tmp_path, body), COURSE):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            os.sched_yield()
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_several_processes_tell_counts_once(tmp_path: Path) -> None:
    body = """
tell(event="warm", records=100)
tell(event="warm", records=101)
tell(event="done", records=1100)
"""
    assert run_once(contender(tmp_path, body), COURSE)["records"] == 1_000


def test_peers_take_part_in_every_other_round(tmp_path: Path) -> None:
    body = 'tell(event="warm", records=1)\ntell(event="done", records=2)'
    peer = replace(contender(tmp_path, body, "peer"), rate=1e6)
    results = Results()
    play([contender(tmp_path, body), peer], COURSE, rounds=3, results=results)
    assert {name: len(rounds) for name, rounds in results.rounds.items()} == {"one": 3, "peer": 2}
