"""Mail by SMTP over four kept connections, ours and aiosmtplib by hand, to a mail server in another process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.brokers import Target
from bench.contenders import program
from bench.contest import ROOT, Course, Results, play
from bench.plots import bars
from bench.scenario import Column, Scenario, figure, guarantee, spread
from streamproc.adapters.broker_files import free_port

MODES = {"ours": ("streamproc", "at least once, same Message-ID"), "hand": ("aiosmtplib by hand", "once, or an error")}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each in turn, to the same server."""
    count, rounds = (1_000, 1) if quick else (4_000, 5)
    with mail_server() as port:
        contenders = [
            replace(program("programs.mailing", mode, title, name=mode, port=port), guarantee=promise)
            for mode, (title, promise) in MODES.items()
        ]
        play(contenders, Course(target.bootstrap, "none", count, 0), rounds=rounds, results=results)


@contextmanager
def mail_server() -> Iterator[int]:
    """The port of a mail server in another process, which takes everything and keeps nothing."""
    port = free_port()
    command = [sys.executable, "-m", "bench.programs.mailing", "serve", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        try:
            while process.poll() is None and not _listens(port):
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


COLUMNS: dict[str, Column] = {
    "mails/s": figure("records_per_s", "{:,.0f}"),
    "us CPU/mail": figure("cpu_us", "{:.0f}"),
    "spread": spread,
    "delivery": guarantee,
}
SCENARIO = Scenario("mail", "mails sent", run, COLUMNS, plot=bars("records_per_s", "mails/s"), on_kafka=False)
