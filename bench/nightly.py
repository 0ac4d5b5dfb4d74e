"""The nightly task of the application, fired by hand: old files to work on, and what became of it."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.serving import command, environment
from bench.sinks import Stored
from streamproc.errors import BrokerError

NAME = "daily-cleanup"
OLD_S = 30 * 86_400
FILES = 20
"""Of each kind: so many are old, and as many are new."""
LOOK_S = 0.1
PATIENCE_S = 60.0


def folders(folder: Path) -> dict[str, str]:
    """The settings that say where files lie."""
    return {"app.options.temporary_folder": str(folder / "tmp"), "app.options.log_folder": str(folder / "logs")}


def litter(folder: Path) -> None:
    """Makes old and new files."""
    for kind, suffix in (("tmp", "tmp"), ("logs", "log")):
        (folder / kind).mkdir()
        for number in range(2 * FILES):
            file = folder / kind / f"{number}.{suffix}"
            file.write_text(f"line {number}\n" * 1_000)
            if number % 2:
                os.utime(file, (time.time() - OLD_S,) * 2)


def fire(folder: Path, flags: Mapping[str, str]) -> None:
    """Fires the task and waits until it has ended. Raises BrokerError when it does not."""
    line = command("schedule", "trigger", "handlers.app:app", NAME, flags=flags)
    subprocess.run(line, env=environment(), check=True, capture_output=True)
    deadline = time.monotonic() + PATIENCE_S
    while not (set(_firings(folder)) & {"done", "failed"}):
        if time.monotonic() > deadline:
            raise BrokerError(f"{NAME} did not end within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)


def _firings(folder: Path) -> list[str]:
    query = "SELECT state FROM firings WHERE schedule = ? AND state <> 'since'"
    return [row[0] for row in _query(folder, query, NAME)]


def _query(folder: Path, query: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(f"file:{folder}/shop.db?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


def account(folder: Path, letters: Iterable[Stored]) -> Mapping[str, Any]:
    """What it did, against the files, the rows and the dead letters that were there."""
    [(fire_at,)] = _query(folder, "SELECT fire_at FROM firings WHERE schedule = ? AND state = 'done'", NAME)
    legs = dict(_query(folder, "SELECT leg, result FROM workflow_legs WHERE run_id LIKE ? || '/%'", NAME))
    reported = [int(part) for part in legs["report"].split()]
    reports = [file for file in (folder / "mail" / "new").iterdir() if b"Subject: Report of" in file.read_bytes()]
    before = sum(one.timestamp_ms < fire_at * 1000 for one in letters)
    counts = {
        "fired": len(_firings(folder)),
        "files_deleted": 2 * FILES - len(list((folder / "tmp").iterdir())),
        "logs_archived": len(list((folder / "logs").glob("*.log.gz"))),
        "reports": len(reports),
        "rows_reported": sum(reported),
        "rows_counted": sum(_rows(folder, fire_at)) + before,
    }
    holds = counts["fired"] == counts["reports"] == 1 and counts["rows_reported"] == counts["rows_counted"]
    whole = counts["files_deleted"] == counts["logs_archived"] == FILES
    left = len(list((folder / "logs").glob("*.log"))) == FILES
    return {**counts, "balanced": holds and whole and left}


def _rows(folder: Path, until: float) -> list[int]:
    tables = (("users", "created_at"), ("orders", "placed_at"), ("readings", "timestamp"), ("alerts", "timestamp"))
    return [
        _query(folder, f"SELECT count(*) FROM {table} WHERE {time} >= ? AND {time} < ?", until - 86_400, until)[0][0]  # noqa: S608
        for table, time in tables
    ]
