"""The times at which schedules were due, in memory, for as long as the process lives."""

from collections.abc import Mapping
from datetime import datetime

from streamproc.model import OutRecord
from streamproc.rows import Firing


class MemoryFirings:
    """See the port; `events` are those that were claimed with their firings. None is forgotten."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, datetime], Firing] = {}
        self.events: list[OutRecord] = []

    async def last(self) -> Mapping[str, Firing]:
        """See the port."""
        return {schedule: self.rows[schedule, fire_at] for schedule, fire_at in sorted(self.rows)}

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        """See the port."""
        if self.rows.setdefault((firing.schedule, firing.fire_at), firing) is not firing:
            return False
        self.events += [event] if event else []
        return True

    async def move(self, firing: Firing) -> Firing | None:
        """See the port."""
        at = (firing.schedule, firing.fire_at)
        stored = self.rows.get(at)
        if stored is None or stored.state in ("done", "failed"):
            return stored
        self.rows[at] = firing
        return firing

    async def running(self, schedule: str, before: datetime) -> bool:
        """See the port."""
        return any(
            one.schedule == schedule and one.fire_at < before < one.lease_until and one.state in ("due", "running")
            for one in self.rows.values()
        )
