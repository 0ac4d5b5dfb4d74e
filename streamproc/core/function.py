"""One function's share of the engine: its lanes or batches, its parked retries, its counts."""

import heapq
from collections.abc import Sequence

from streamproc.core.batcher import Batcher
from streamproc.core.lanes import Lanes, Work
from streamproc.core.ledger import Entry
from streamproc.core.plan import FunctionPlan
from streamproc.model import SHORT_S, FunctionSnapshot, TopicPartition

BUCKETS = 40


class Function:
    """A function's records. Exactly one of `lanes` (one event a call) and `batcher` (batches) is in use: `queue`."""

    __slots__ = (
        "_parked",
        "_parked_ever",
        "batcher",
        "calls",
        "calls_sum_s",
        "lanes",
        "plan",
        "queue",
        "sizes",
        "sizes_sum",
    )

    def __init__(self, plan: FunctionPlan) -> None:
        self.plan = plan
        self.lanes = Lanes()
        self.batcher = Batcher(plan.batch_size or 1, plan.batch_window_s, plan.keys_of)
        self.queue: Lanes | Batcher = self.batcher if plan.batch_size else self.lanes
        self.calls = [0] * BUCKETS
        self.calls_sum_s = 0.0
        self.sizes = [0] * BUCKETS
        self.sizes_sum = 0
        self._parked: list[tuple[float, int, Work]] = []
        self._parked_ever = 0

    def admit(self, entry: Entry, indexes: Sequence[int], now: float) -> None:
        """Enters records in offset order."""
        if self.plan.batch_size:
            self.batcher.admit(entry, indexes, now)
        else:
            self.lanes.admit(entry, indexes, self.plan.keys_of(entry, indexes))

    def ready(self, now: float) -> int:
        """How many calls could begin now."""
        if self.plan.batch_size:
            wake_at = self.batcher.wake_at()
            return int(wake_at is not None and wake_at <= now)
        return len(self.lanes.ready)

    def park(self, work: Work, until: float) -> None:
        """Keeps a work, and so its key, until its retry."""
        self._parked_ever += 1
        heapq.heappush(self._parked, (until, self._parked_ever, work))

    def wake(self, now: float) -> None:
        """Readies the parked works whose time has come."""
        while self._parked and self._parked[0][0] <= now:
            self.queue.resume(heapq.heappop(self._parked)[2])

    def wake_at(self) -> float | None:
        """When the next retry or batch is due, None while nothing waits for a time."""
        times = [self._parked[0][0]] if self._parked else []
        window = self.batcher.wake_at() if self.plan.batch_window_s else None
        if window:
            times.append(window)
        return min(times, default=None)

    def drop(self, partition: TopicPartition, beyond: int) -> None:
        """Forgets what is not in a call and stands at offset `beyond` or higher."""
        self.queue.drop(partition, beyond, [work for _, _, work in self._parked])
        self._parked = [
            parked for parked in self._parked if parked[2].lane.partition != partition or parked[2].offset < beyond
        ]
        heapq.heapify(self._parked)

    def busy(self, partition: TopicPartition, until: float) -> bool:
        """Whether something of the partition is in a call, ready, or parked for a retry before `until`."""
        return self.queue.busy(partition) or any(
            due <= until and work.lane.partition == partition for due, _, work in self._parked
        )

    def called(self, seconds: float, records: int) -> None:
        """Counts a call, for the histograms: bucket i holds values below 2**i (times `SHORT_S`, or records)."""
        self.calls[int(seconds / SHORT_S).bit_length()] += 1
        self.calls_sum_s += seconds
        self.sizes[records.bit_length()] += 1
        self.sizes_sum += records

    def snapshot(self) -> FunctionSnapshot:
        """Frozen numbers."""
        in_flight = sum(len(one) for one in self.batcher.running) + len(self.lanes.running)
        buffered = sum(lane.buffered for lane in self.batcher.lanes.values())
        return FunctionSnapshot(
            name=self.plan.name,
            waiting=len(self.lanes.ready) + self.lanes.waiting + buffered,
            in_flight=in_flight,
            parked=len(self._parked),
            calls=tuple(self.calls),
            calls_sum_s=self.calls_sum_s,
            calls_running=len(self.batcher.running) + len(self.lanes.running),
            batch_records=tuple(self.sizes),
            batch_records_sum=self.sizes_sum,
        )
