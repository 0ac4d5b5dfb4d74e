"""The ending of a process. Each test runs a process of its own, which takes its signals."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamproc.adapters.kafka_client import LoginRefused
from streamproc.ending import ASK_S, CLOSE_S, FAILED, SAY_S, USAGE, exit_code
from streamproc.errors import BrokerError, ConfigError, StoreError

ROOT = Path(__file__).parents[2]
HEAD = """
import asyncio, logging, os, sys, threading, time
from streamproc.ending import Ending
from streamproc.errors import *

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stdout)

def say(line):  # in one write: workers share the pipe
    os.write(1, f"{line}\\n".encode())

def run(main, parent=None):
    ending = Ending(parent)
    ending.listen()
    sys.exit(asyncio.run(main(ending)) or 0)
"""


class Process:
    """A process with an ending, and what it has said."""

    def __init__(self, body: str) -> None:
        script = HEAD + textwrap.dedent(body) + "\nrun(main)\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.said: list[str] = []

    def until(self, line: str) -> None:
        """Waits until it says this once more."""
        assert self._process.stdout is not None
        said = ""
        while line not in said:
            said = self._process.stdout.readline()
            assert said, f"it ended without {line!r}: {self.said}"
            self.said.append(said.strip())

    def told(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def ends(self) -> int:
        """Waits for its end; its exit code."""
        assert self._process.stdout is not None
        self.said += [line.strip() for line in self._process.stdout]
        return self._process.wait(60)


def test_a_process_that_ends_in_time_has_its_own_code() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            ending.serving(60)
            say("up")
            await ending.stop.wait()
            return 0
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 0
    assert process.said == ["up", "INFO SIGTERM: stopping"]


@pytest.mark.parametrize(
    ("holds", "left"),
    [
        ("await asyncio.Event().wait()", "calls of mail (3)"),
        ("time.sleep(3600)", "the event loop, blocked at <string>:N in main"),
        ("await asyncio.to_thread(time.sleep, 3600)", "calls of mail (3); threads asyncio_0"),
    ],
)
def test_what_holds_on_is_left_behind_and_named(holds: str, left: str) -> None:
    process = Process(
        f"""
        async def main(ending):
            ending.attach()
            ending.serving(0.2)
            ending.doing = lambda: "calls of mail (3)"
            say("up")
            {holds}
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 4
    expected = f"ERROR stream.grace_s = 0.2 is over: the process ends now and leaves behind {left}"
    assert re.sub(r">:\d+", ">:N", process.said[-1]) == expected


def test_a_computation_that_does_not_end_is_left_behind() -> None:
    process = Process(
        """
        from streamproc.compute import ComputeOptions, open_compute

        async def main(ending):
            ending.attach()
            ending.serving(0.2)
            async with open_compute(ComputeOptions()) as compute:
                running = asyncio.create_task(compute.run(time.sleep, 3600))
                say("up")
                await ending.stop.wait()
                running.cancel()
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 4
    assert "threads asyncio_0, compute_0" in process.said[-1]


def test_nobody_who_reads_the_log_holds_it_up() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            ending.serving(0.2)
            say("up")
            threading.Thread(target=lambda: [print("x" * 70_000) for _ in range(1_000)], daemon=True).start()
            await asyncio.Event().wait()
        """
    )
    process.until("up")
    process.told()
    assert process._process.wait(60) == 4


def test_a_process_that_still_connects_ends_at_once_and_well() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            async with ending.connecting():
                say("up")
                await asyncio.Event().wait()
            say("cut short")
            return 0
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 0
    assert process.said[-1] == "cut short"


def test_so_does_one_whose_connecting_blocks_the_event_loop() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            async with ending.connecting():
                say("up")
                time.sleep(3600)
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 0
    assert "ERROR" not in "".join(process.said)


def test_a_timeout_of_ones_own_while_connecting_is_an_error() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            try:
                async with ending.connecting():
                    raise TimeoutError("the database")
            except TimeoutError as error:
                say(error)
            return 0
        """
    )
    assert process.ends() == 0
    assert process.said == ["the database"]


@pytest.mark.parametrize(
    ("error", "code"), [('BrokerError("gone")', 1), ('ConfigError("wrong")', 2), ("ZeroDivisionError()", 1)]
)
def test_an_error_has_the_same_deadline_and_its_own_code(error: str, code: int) -> None:
    process = Process(
        f"""
        async def main(ending):
            ending.attach()
            ending.serving(0.2)
            error = {error}
            ending.fail(error)
            ending.fail(error)
            await ending.stop.wait()
            await asyncio.Event().wait()
        """
    )
    assert process.ends() == code
    assert len([line for line in process.said if line.startswith("ERROR")]) == 2


def test_a_signal_during_the_ending_of_an_error_does_not_cut_it_short() -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            ending.serving(60)
            ending.fail(BrokerError("gone"))
            say("up")
            await asyncio.sleep(1)
            say("drained")
            return 1
        """
    )
    process.until("up")
    process.told()
    assert process.ends() == 1
    assert process.said[-1] == "drained"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    process = Process(
        """
        async def main(ending):
            ending.attach()
            ending.serving(3600)
            say("up")
            time.sleep(3600)
        """
    )
    process.until("up")
    process.told()
    process.until("stopping")
    process.told(number)
    assert process.ends() == 128 + number


def test_a_worker_leaves_what_is_typed_at_a_terminal_to_its_parent() -> None:
    body = """
    from streamproc.processes import supervise

    async def main(ending):
        ending.attach()
        ending.serving(60)
        say("up")
        await ending.stop.wait()
        await asyncio.sleep(0.5)
        say("drained")
        return 0

    def work(number, parent):
        try:
            run(main, parent)
        except SystemExit as ending:
            return ending.code

    sys.exit(supervise(2, work, 60))
    """
    process = Process(body)
    process.until("up")
    process.until("up")
    os.killpg(process._process.pid, signal.SIGINT)
    assert process.ends() == 0
    assert process.said.count("drained") == 2


def test_a_parent_that_is_gone_begins_the_ending_also_of_a_blocked_loop() -> None:
    process = Process(
        """
        from multiprocessing import Pipe

        watched, held = Pipe(duplex=False)

        async def main(ending):
            ending.attach()
            ending.serving(0.2)
            say("up")
            held.close()
            time.sleep(3600)

        run(main, watched)
        """
    )
    assert process.ends() == 4


def test_less_than_a_second_follows_the_grace() -> None:
    assert CLOSE_S + ASK_S + SAY_S < 0.9


def test_who_must_act_is_in_the_code() -> None:
    passing = [BrokerError("x"), StoreError("x"), OSError("x"), ZeroDivisionError()]
    assert [exit_code(error) for error in passing] == [FAILED] * 4
    assert [exit_code(error) for error in (ConfigError("x"), LoginRefused("x"))] == [USAGE] * 2
