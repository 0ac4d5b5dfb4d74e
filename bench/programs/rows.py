"""Readings into PostgreSQL, one for each sensor and time, as a contender: our store, or asyncpg by hand.

Modes: `ours`; `unnest`, one statement with ON CONFLICT; `copy`, COPY to a temporary table and INSERT SELECT.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.report import Meter, Task
from handlers.stores.alerts import AlertRule
from handlers.stores.opening import open_stores
from handlers.stores.readings import Reading
from streamproc.adapters.store import StoreOptions
from streamproc.model import OutRecord

Write = Callable[[Sequence[Reading]], Awaitable[object]]
COLUMNS = "sensor_id, timestamp, event_id, temperature, humidity, processed_at"
KEPT = (
    "ON CONFLICT (sensor_id, timestamp) DO UPDATE SET deliveries = readings.deliveries + 1 "
    "WHERE readings.event_id = excluded.event_id AND readings.temperature = excluded.temperature"
)
RULE = AlertRule(30.0, timedelta(minutes=5), lambda reading: OutRecord("alerts", reading.event_id.encode()))
"""None of these readings raises one."""


@dataclass(frozen=True)
class RowsTask(Task):
    """Also: the store, its password, and the rows of a batch."""

    store: str = ""
    password: str = ""
    batch: int = 1_000


def rows(first: int, count: int) -> list[Reading]:
    """New readings."""
    now = datetime.now(UTC)
    return [Reading(f"s-{n % 1_000}", now, f"{n:032x}", 20.5, 40.0, now) for n in range(first, first + count)]


async def write_all(meter: Meter, task: RowsTask, write: Write) -> None:
    """Batch by batch, one at a time."""
    first = 0
    while not meter.done:
        await write(rows(first, task.batch))
        first += task.batch
        meter.add(task.batch)


async def ours(meter: Meter, task: RowsTask) -> None:
    """The application's store."""
    async with open_stores(StoreOptions(url=task.store, password=task.password)) as stores:
        await write_all(meter, task, lambda readings: stores.readings.upsert(readings, RULE))


async def by_hand(meter: Meter, task: RowsTask) -> None:
    """One connection of asyncpg."""
    import asyncpg

    connection = await asyncpg.connect(task.store, password=task.password)
    await write_all(meter, task, (unnest if task.mode == "unnest" else await copy(connection))(connection))


def unnest(connection: Any) -> Write:
    """One prepared statement a batch."""
    kinds = "text", "timestamptz", "text", "float8", "float8", "timestamptz"
    parameters = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, 1))
    insert = f"INSERT INTO readings ({COLUMNS}) SELECT * FROM unnest({parameters}) {KEPT}"  # noqa: S608

    async def write(batch: Sequence[Reading]) -> None:
        await connection.execute(insert, *zip(*batch, strict=True))

    return write


async def copy(connection: Any) -> Callable[[Any], Write]:
    """COPY and one statement a batch, in one transaction."""
    await connection.execute(f"CREATE TEMP TABLE fresh AS SELECT {COLUMNS} FROM readings WHERE false")  # noqa: S608
    insert = f"INSERT INTO readings ({COLUMNS}) SELECT * FROM fresh {KEPT}"  # noqa: S608

    async def write(batch: Sequence[Reading]) -> None:
        async with connection.transaction():
            await connection.execute("TRUNCATE fresh")
            await connection.copy_records_to_table("fresh", records=batch, columns=COLUMNS.split(", "))
            await connection.execute(insert)

    return lambda _connection: write


def main(task: RowsTask) -> int:
    """Writes until all is counted."""
    import uvloop

    meter = Meter(task)
    uvloop.run(ours(meter, task) if task.mode == "ours" else by_hand(meter, task))
    return 0


if __name__ == "__main__":
    sys.exit(main(RowsTask.from_arguments()))
