"""Whether a process does its work, from the engine's snapshots. Pure."""

from collections.abc import Mapping, Sequence

from streamproc.model import PartitionSnapshot, Snapshot, TopicPartition

STUCK_S = 60.0
"""A partition that is behind, not blocked and has not moved for so long is stuck."""
DEAD_S = 180.0
"""One that is stuck for so long makes the process not live: it should be restarted."""


SILENT_S = 15.0
"""A broker that has not answered for so long makes the process not ready; it answers twice a second, also when idle."""


class Watch:
    """Remembers when each partition last moved. Call `look` now and then, with the time in seconds."""

    def __init__(self) -> None:
        self._moved: dict[TopicPartition, tuple[tuple[int, int], float]] = {}
        self._stuck_s: dict[TopicPartition, float] = {}
        self._assigned = False
        self._silent_s = 0.0
        self._blocked: list[str] = []

    def look(
        self, snapshots: Sequence[Snapshot], ends: Mapping[TopicPartition, int], *, silent_s: float, now: float
    ) -> None:
        """Takes in how things stand."""
        self._silent_s = silent_s
        partitions = [partition for snapshot in snapshots for partition in snapshot.partitions]
        self._assigned = bool(partitions)
        self._blocked = [
            f"{one.partition.topic}-{one.partition.partition}: {one.blocked}"
            for one in partitions
            if one.blocked not in ("", "records", "span", "draining")
        ]
        moved: dict[TopicPartition, tuple[tuple[int, int], float]] = {}
        for one in partitions:
            where = (one.done, one.unsettled)
            last = self._moved.get(one.partition)
            still = last is not None and last[0] == where and self._behind(one, ends)
            moved[one.partition] = last if last is not None and still else (where, now)
        self._moved = moved
        self._stuck_s = {partition: now - since for partition, (_, since) in moved.items()}

    @staticmethod
    def _behind(one: PartitionSnapshot, ends: Mapping[TopicPartition, int]) -> bool:
        return ends.get(one.partition, 0) > one.done

    def _stuck(self, longer_than_s: float) -> str:
        for (topic, number), seconds in self._stuck_s.items():
            if seconds > longer_than_s:
                return f"{topic}-{number} is behind and has not moved for {seconds:.0f} s"
        return ""

    def live(self) -> str:
        """Why the process should be restarted; empty when it is fine."""
        return self._stuck(DEAD_S)

    def ready(self) -> str:
        """Why the process does no useful work; empty when it does."""
        if not self._assigned:
            return "no partition is assigned"
        if self._silent_s > SILENT_S:
            return f"Kafka has not answered for {self._silent_s:.0f} s"
        return "; ".join(self._blocked) or self._stuck(STUCK_S)
