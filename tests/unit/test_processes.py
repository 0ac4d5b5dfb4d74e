"""Worker processes have one fate. Each test runs a parent of its own: it takes over the signals of its process."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, sys, threading, time
from streamproc.processes import supervise

def say(line):  # in one write: the workers share the pipe
    os.write(1, f"{line}\\n".encode())

def until_told(code):
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    say(f"up {os.getpid()}")
    told.wait(60)
    return code
"""


def start(body: str) -> "subprocess.Popen[str]":
    script = HEAD + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def workers_of(parent: "subprocess.Popen[str]", count: int) -> list[int]:
    """Waits until so many workers listen; their process ids."""
    assert parent.stdout is not None
    return [int(parent.stdout.readline().split()[1]) for _ in range(count)]


def test_sigterm_is_passed_on_and_all_end_well() -> None:
    with start("sys.exit(supervise(3, lambda n, parent: until_told(0), 5))") as parent:
        workers = workers_of(parent, 3)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_when_one_ends_all_are_told_and_its_code_is_the_answer() -> None:
    with start("sys.exit(supervise(3, lambda n, parent: 2 if n == 1 else until_told(0), 5))") as parent:
        assert parent.wait(30) == 2


def test_a_code_that_means_nothing_here_is_a_failure_and_told() -> None:
    """As of a function that calls os._exit."""
    with start("sys.exit(supervise(2, lambda n, parent: os._exit(7) if n else until_told(0), 5))") as parent:
        assert parent.wait(30) == 1
        assert parent.stderr is not None
        assert re.search(r"worker process \d+ ended itself with exit code 7", parent.stderr.read())


def test_a_worker_that_is_killed_ends_all() -> None:
    with start("sys.exit(supervise(2, lambda n, parent: until_told(0), 5))") as parent:
        victim, survivor = workers_of(parent, 2)
        os.kill(victim, signal.SIGKILL)
        assert parent.wait(30) == 1
        assert parent.stderr is not None
        assert parent.stderr.read() == f"worker process {victim} was killed by SIGKILL\n"
    assert not Path(f"/proc/{survivor}").exists()


def test_a_worker_that_raises_is_a_failure() -> None:
    with start("sys.exit(supervise(2, lambda n, parent: 1 / 0 if n == 0 else until_told(0), 5))") as parent:
        assert parent.wait(30) == 1


def test_workers_notice_that_their_parent_is_gone() -> None:
    body = """
    def work(n, parent):
        say(f"up {os.getpid()}")
        parent.poll(60)
        say("gone")
        return 0

    supervise(2, work, 5)
    """
    with start(body) as parent:
        workers_of(parent, 2)
        parent.kill()
        assert parent.stdout is not None
        assert parent.stdout.readline() == "gone\n"
        assert parent.stdout.readline() == "gone\n"


def test_one_deadline_holds_for_all_and_who_is_late_exceeded_its_grace() -> None:
    body = """
    def work(n, parent):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(f"up {os.getpid()}")
        time.sleep(3600)

    began = time.monotonic()
    code = supervise(4, work, 0.2)
    sys.exit(code if time.monotonic() - began < 60 else 99)
    """
    with start(body) as parent:
        workers = workers_of(parent, 4)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 4
        assert parent.stderr is not None
        assert parent.stderr.read().count("did not end by itself in stream.grace_s = 0.2 and is killed") == 4
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_second_signal_ends_all_at_once() -> None:
    body = """
    def work(n, parent):
        signal.signal(signal.SIGTERM, lambda *_: say("told"))
        say(f"up {os.getpid()}")
        while True:
            time.sleep(3600)

    sys.exit(supervise(2, work, 3600))
    """
    with start(body) as parent:
        workers_of(parent, 2)
        parent.send_signal(signal.SIGTERM)
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["told\n"] * 2
        parent.send_signal(signal.SIGINT)
        assert parent.wait(30) == 128 + signal.SIGINT


def test_a_signal_after_one_has_failed_tells_nobody_twice() -> None:
    body = """
    import multiprocessing

    up = multiprocessing.get_context("fork").Event()

    def work(n, parent):
        if n == 0:
            up.wait(60)
            return 2
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
        up.set()
        while not told:
            time.sleep(0.01)
        say("draining")
        time.sleep(1)
        return len(told) - 1

    sys.exit(supervise(2, work, 60))
    """
    with start(body) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "draining\n"
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 2
