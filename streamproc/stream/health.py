"""Whether a process does its work, from the snapshots of its parts. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streamproc.model import FunctionSnapshot, PartitionSnapshot, Snapshot, TopicPartition

STUCK_S = 60.0
"""A partition that is behind and has not moved for so long is not ready."""
DEAD_S = 180.0
"""What a restart would help is given so long to help itself."""
SILENT_S = 15.0
"""A broker that has not answered for so long makes the process not ready; it answers twice a second, also when idle."""

_BACK_PRESSURE = ("", "records", "span", "bytes", "draining")
_ADVICE = {
    "offset_out_of_range": "its records are gone: see the log for where it can go on",
    "oversized_record": "a record is larger than kafka.partition_fetch_bytes_max: raise that, or `streamproc skip` it",
    "unreadable_batch": "a batch cannot be read: see the log for which one, and `streamproc skip` it",
    "not_authorized": "this user may not read the topic: allow it",
    "dead_letters_refused": "the broker refuses its dead letters: see the log for the reason",
}


class CallLimits(NamedTuple):
    """What the calls of a function may take: how many at once, and seconds each; then the wait for a full batch."""

    concurrency: int
    timeout_s: float
    batch_window_s: float = 0.0


class Watch:
    """Remembers when each partition last moved. Call `look` now and then, with the time in seconds."""

    def __init__(self, limits: Mapping[str, CallLimits]) -> None:
        self._limits = limits
        self._moved: dict[TopicPartition, tuple[tuple[int, int], float]] = {}
        self._suspicion = ""
        self._problem = ""

    def look(
        self,
        snapshots: Sequence[Snapshot],
        ends: Mapping[TopicPartition, int],
        *,
        trouble: str,
        silent_s: float,
        now: float,
    ) -> None:
        """Takes in how things stand; `trouble` is what the consumers say of themselves."""
        self._note_moves([one for snapshot in snapshots for one in snapshot.partitions], ends, now)
        self._suspicion = "" if trouble else self._suspect(snapshots, silent_s, now)
        self._problem = trouble or self._find_problem(snapshots, silent_s, now)

    def ready(self) -> str:
        """Returns why the partitions make no progress, in words that say where to look; empty when they do."""
        return self._problem

    def suspicion(self) -> str:
        """Returns what only a restart would end, provided that Kafka answers others; empty when there is nothing."""
        return self._suspicion

    def _note_moves(
        self, partitions: Sequence[PartitionSnapshot], ends: Mapping[TopicPartition, int], now: float
    ) -> None:
        moved: dict[TopicPartition, tuple[tuple[int, int], float]] = {}
        for one in partitions:
            where = (one.done, one.admitted)
            last = self._moved.get(one.partition)
            stands = last is not None and last[0] == where and ends.get(one.partition, 0) > one.done
            moved[one.partition] = last if last is not None and stands else (where, now)
        self._moved = moved

    def _still_s(self, one: PartitionSnapshot, now: float) -> float:
        return now - self._moved[one.partition][1]

    def _suspect(self, snapshots: Sequence[Snapshot], silent_s: float, now: float) -> str:
        if silent_s > DEAD_S:
            return f"the Kafka client has heard nothing for {silent_s:.0f} s, though Kafka answers others"
        for one in (one for snapshot in snapshots for one in snapshot.partitions):
            is_asked_for = not one.blocked and not one.unsettled and silent_s <= SILENT_S
            if is_asked_for and self._still_s(one, now) > DEAD_S:
                seconds = self._still_s(one, now)
                return f"{_name(one)} is behind, and the Kafka client has brought nothing of it for {seconds:.0f} s"
        return ""

    def _find_problem(self, snapshots: Sequence[Snapshot], silent_s: float, now: float) -> str:
        partitions = [one for snapshot in snapshots for one in snapshot.partitions]
        if not partitions:
            return "no partition is assigned"
        if silent_s > SILENT_S:
            return f"Kafka has not answered for {silent_s:.0f} s"
        blocked = [f"{_name(one)}: {_told(one.blocked)}" for one in partitions if one.blocked not in _BACK_PRESSURE]
        if blocked:
            return "; ".join(blocked)
        return next(filter(None, (self._stuck(snapshot, now) for snapshot in snapshots)), "")

    def _stuck(self, snapshot: Snapshot, now: float) -> str:
        retried = [f"{one.name} ({one.parked})" for one in snapshot.functions if one.parked]
        calling = [one.name for one in snapshot.functions if one.in_flight]
        allowed_s = STUCK_S + max(map(self._allowed_s, snapshot.functions), default=0.0)
        for one in snapshot.partitions:
            seconds = self._still_s(one, now)
            if seconds <= (allowed_s if one.unsettled and not retried else STUCK_S):
                continue
            told = f"{_name(one)} is behind and has not moved for {seconds:.0f} s"
            if not one.unsettled:
                return f"{told}: nothing of it comes from Kafka"
            if retried:
                return f"{told}: records wait for a retry of {', '.join(retried)}, see the log for its errors"
            if calling:
                return f"{told}: calls go on beyond timeout_s, of {', '.join(calling)}"
            return f"{told}: see /debug/partitions"
        return ""

    def _allowed_s(self, function: FunctionSnapshot) -> float:
        """Seconds that a record may spend in a function without anything being wrong."""
        limits = self._limits.get(function.name)
        if limits is None or not (function.in_flight or function.waiting):
            return 0.0
        return limits.batch_window_s + limits.timeout_s


class Calls:
    """Remembers when calls of each function last ended. Call `look` now and then, with the time in seconds."""

    def __init__(self, limits: Mapping[str, CallLimits]) -> None:
        self._limits = limits
        self._ended: dict[tuple[int, str], tuple[int, float]] = {}
        self._hung = ""

    def look(self, functions: Iterable[Sequence[FunctionSnapshot]], *, now: float) -> None:
        """Takes in the functions of each pipeline or gateway, always in the same order."""
        ended: dict[tuple[int, str], tuple[int, float]] = {}
        self._hung = ""
        for number, several in enumerate(functions):
            for one in several:
                limits = self._limits[one.name]
                if one.calls_running < limits.concurrency:
                    continue
                count = sum(one.calls)
                last = self._ended.get((number, one.name))
                ended[number, one.name] = since = last if last is not None and last[0] == count else (count, now)
                if now - since[1] > limits.timeout_s + DEAD_S:
                    self._hung = (
                        f"{one.name} cannot be called: all of its {one.calls_running} calls have gone on for"
                        f" {now - since[1]:.0f} s, beyond timeout_s = {limits.timeout_s:g}"
                    )
        self._ended = ended

    def hung(self) -> str:
        """Returns which function has no place left, since nothing ends the calls that hold them; empty if none."""
        return self._hung


def _name(one: PartitionSnapshot) -> str:
    return f"{one.partition.topic}-{one.partition.partition}"


def _told(blocked: str) -> str:
    return f"{blocked} ({_ADVICE[blocked]})" if blocked in _ADVICE else blocked
