"""Around the function of a schedule: what becomes of its firing, and no second call for one that ended.

    due -> running -> done | failed
     ^--------'   it is called again

A firing whose row is gone is run without one. What the function did is not taken back because its end could not be
written: then the row stays `running`, until its lease runs out.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from streamproc.errors import StoreError
from streamproc.model import Reject, RetryLater
from streamproc.ports import Firings
from streamproc.rows import Firing
from streamproc.schedule.declare import Schedule, TaskDue

DUE_S = 3_600.0
"""How long a firing counts as due at least, in seconds, while its record waits for the broker or in its topic."""
SLACK_S = 60.0
"""What a lease has beyond what it is for, in seconds: clocks differ, and databases take a while."""
DELAY_MAX_S = 366 * 86_400.0


def due(schedule: Schedule, fire_at: datetime, now: datetime) -> Firing:
    """The firing of a record that is about to be put on the stream."""
    return Firing(schedule.name, fire_at, "due", now + timedelta(seconds=max(schedule.timeout_s, DUE_S)))


class Task:
    """The handler of a schedule's Stream. `firings` finds the port in the services."""

    def __init__(self, schedule: Schedule, firings: Callable[[Any], Firings]) -> None:
        self._schedule = schedule
        self._firings = firings

    async def __call__(self, task: TaskDue, ctx: Any) -> Any:
        """Calls the function, unless the firing is done or failed, and returns what it returned.

        A repeat of one that failed is rejected once more: its dead letter may not have been written.
        """
        schedule = self._schedule
        lease_s = schedule.timeout_s + schedule.backoff_max_s + SLACK_S  # a call that ran too long writes nothing
        running = Firing(task.schedule, task.fire_at, "running", ctx.now + timedelta(seconds=lease_s))
        stored = await self._firings(ctx.services).move(running)
        if stored is not None and stored.state == "done":
            return None
        if stored is not None and stored.state == "failed":
            return Reject("failed_before", "this firing failed for good before")
        try:
            returned = await schedule.handler(task, ctx)
        except Exception:
            await self._retried(running, ctx, schedule.backoff_max_s)
            raise
        if returned is None:
            await self._move(replace(running, state="done", ended_at=ctx.now), ctx)
        elif isinstance(returned, Reject):
            await self._move(replace(running, state="failed", ended_at=ctx.now), ctx)
        else:
            after_s = returned.after_s if isinstance(returned, RetryLater) else schedule.backoff_max_s
            await self._retried(running, ctx, after_s)
        return returned

    async def _retried(self, firing: Firing, ctx: Any, after_s: float) -> None:
        if ctx.is_last_attempt:
            await self._move(replace(firing, state="failed", ended_at=ctx.now), ctx)
        else:
            lease_s = min(max(0.0, after_s), DELAY_MAX_S) + SLACK_S
            await self._move(replace(firing, state="due", lease_until=ctx.now + timedelta(seconds=lease_s)), ctx)

    async def _move(self, firing: Firing, ctx: Any) -> None:
        try:
            await self._firings(ctx.services).move(firing)
        except StoreError as error:
            ctx.log.warning("the firing of %s is %s, which was not written: %s", firing.fire_at, firing.state, error)
