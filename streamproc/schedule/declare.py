"""What a user declares of a schedule, and the event its function gets."""

import inspect
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from streamproc.errors import ConfigError
from streamproc.handler import check_handler
from streamproc.limits import STREAM_LIMITS, check_limits
from streamproc.model import Event
from streamproc.schedule import cron

_NAME = re.compile(r"[a-z0-9._-]{1,100}")


class TaskDue(Event, tag="task.due"):
    """A schedule is due. `fire_at` is the time it was due at, in UTC; the call itself may come later."""

    schedule: str
    fire_at: Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A function that runs at the times of a cron expression, in the time zone `tz`, once for all processes.

    The handler is an `async def` and gets `(task, ctx)`, a TaskDue and the Context of its record. `schedule/cron.py`
    says what an expression may be and what daylight saving does to it. `catch_up` is about times at which nothing ran:
    let them be (`none`), run once for the latest (`last`), or for each (`all`). `overlap` is about a time that comes
    while an earlier one is not done: leave it out (`skip`), or run it afterwards (`queue`). Times are in seconds; -1
    means no limit. The record goes to `topic`, the first input topic when not given. Raises ConfigError when
    impossible.
    """

    name: str
    cron: str
    handler: Callable[..., Any]
    _: KW_ONLY
    tz: str = "UTC"
    catch_up: Literal["none", "last", "all"] = "last"
    overlap: Literal["skip", "queue"] = "skip"
    topic: str | None = None
    timeout_s: float = 3_600.0
    max_retry_attempts: int = 10
    backoff_s: float = 1.0
    backoff_max_s: float = 300.0
    event: type[TaskDue] = field(init=False, repr=False, compare=False)
    """The event class of this schedule alone: its type is `task.due.<name>`."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"Schedule({self.name!r}): a name has 1 to 100 characters of a-z, 0-9, dot, dash and _")
        if not inspect.iscoroutinefunction(self.handler):
            raise ConfigError(f"{self.name}: the handler must be an async def; run what blocks with asyncio.to_thread")
        try:
            cron.check(self.cron, self.tz)
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}") from None
        if self.catch_up not in ("none", "last", "all"):
            raise ConfigError(f"{self.name}: catch_up={self.catch_up!r} is not one of none, last, all")
        if self.overlap not in ("skip", "queue"):
            raise ConfigError(f"{self.name}: overlap={self.overlap!r} is not one of skip, queue")
        check_limits(self, STREAM_LIMITS)
        made = msgspec.defstruct("TaskDue", [], bases=(TaskDue,), tag=f"task.due.{self.name}", frozen=True)
        object.__setattr__(self, "event", made)
        check_handler(self.name, self.handler, self.event, batched=False)
