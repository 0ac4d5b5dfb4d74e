"""What the runtime keeps in the database of an application, but for the outbox: rows as values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

LegState = Literal["done", "failed", "rejected", "undone"]
"""Of a leg of a workflow: `failed` is tried again, the others are final, but that what is done may be undone."""


@dataclass(frozen=True, slots=True)
class LegRecord:
    """What became of one leg of a run of a workflow.

    `fingerprint` tells runs of the same id but of other content apart. `attempts` counts the calls that ended, this
    one included; `started_at` and `ended_at` are the last one's. `result` is what the leg leaves to those after it
    (done), why it was rejected, or how it failed; `detail` is for people.
    """

    run_id: str
    leg: str
    fingerprint: bytes
    state: LegState
    attempts: int
    started_at: datetime
    ended_at: datetime
    result: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Firing:
    """A time at which a schedule was due: one row for each, whoever claims it first.

    `state` is `due` (its record is, or will be, on the stream), `running`, `done`, `failed` (its record is a dead
    letter), `skipped` (the one before it ran still) or `missed` (nobody was there, and the rule says to let it be);
    `since` marks when the schedule was first seen. `lease_until` is when a firing that is `due` or `running` no longer
    counts as such.
    """

    schedule: str
    fire_at: datetime
    state: Literal["since", "due", "running", "done", "failed", "skipped", "missed"]
    lease_until: datetime
    ended_at: datetime | None = None
