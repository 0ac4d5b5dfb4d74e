"""The application the service runs in these tests: it writes down every call, outside of the process."""

import asyncio
import os
import time
from collections.abc import Sequence

from streamproc import App, BatchContext, Context, Event, Reject, Stream


class Step(Event, tag="step"):
    """The n-th record of a key. `fate` says what its function does: ok, reject or hang."""

    key: str
    n: int
    fate: str = "ok"
    work_s: float = 0.002


class Bulk(Event, tag="bulk"):
    """The n-th record of a key, for the batch function."""

    key: str
    n: int


def write_down(what: str, key: str, n: int) -> None:
    """One line, in one write: what happened to which record, in which process, and when (seconds, monotonic)."""
    line = f"{what} {key} {n} {os.getpid()} {time.monotonic():.6f}\n"
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


class Stall(Event, tag="stall"):
    """A call that blocks its thread."""

    key: str
    n: int


def stall(event: Stall, ctx: Context[None]) -> None:
    """Begins, and does not end."""
    write_down("begin", event.key, event.n)
    time.sleep(3600)


async def take_step(event: Step, ctx: Context[None]) -> Reject | None:
    """Begins, works, ends."""
    write_down("begin", event.key, event.n)
    if event.fate == "reject":
        return Reject("refused", "as told")
    await asyncio.sleep(3600 if event.fate == "hang" else event.work_s)
    write_down("end", event.key, event.n)
    return None


async def take_bulk(events: Sequence[Bulk], ctx: BatchContext[None]) -> None:
    """The same, one after the other."""
    for event in events:
        write_down("begin", event.key, event.n)
        await asyncio.sleep(0.0005)
        write_down("end", event.key, event.n)


app = App(
    functions=[
        Stream(Step, take_step, concurrency=50),
        Stream(Bulk, take_bulk, batch_size=50),
        Stream(Stall, stall),
    ]
)
