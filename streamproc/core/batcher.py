"""Batches for functions that take many events a call.

Records wait per partition and leave together, from several partitions if one has too few: when `size` are there or
the oldest has waited `window_s`. A partition has at most one batch in a call (so a key has, too: ONE-IN-FLIGHT), and
as long as nothing fails no record is looked at alone.

What fails is set apart by key: the failed record, the later ones of its key in the same batch, and those of its key
that come after wait in a lane of their own and join the partition's next batch once the retry is due; other keys go
on (KEY-ORDER). A lane that has emptied is forgotten, and its key is ordinary again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from streamproc.core.lanes import Key, Lane, Work
from streamproc.core.ledger import Entry
from streamproc.model import TopicPartition

Part = tuple[Entry, Sequence[int]]
KeysOf = Callable[[Entry, Sequence[int]], Sequence[Key]]


class Batch:
    """What one call gets: retried works first, then parts of record batches. One in a call per partition."""

    __slots__ = ("lanes", "parts", "retried")

    def __init__(self) -> None:
        self.retried: list[Work] = []
        self.parts: list[Part] = []
        self.lanes: list[BatchLane] = []

    def __len__(self) -> int:
        return len(self.retried) + sum(len(indexes) for _, indexes in self.parts)

    def attempt(self) -> int:
        """The number of this call for the record that was called most often."""
        return max((work.attempt for work in self.retried), default=1)


class BatchLane(Lane):
    """One partition of one batch function: what waits for the next batch, and the keys set apart."""

    __slots__ = ("buffer", "buffered", "in_call", "ripe", "since")

    def __init__(self, partition: TopicPartition) -> None:
        super().__init__(partition)
        self.buffer: deque[Part] = deque()
        self.buffered = 0
        self.ripe: deque[Key] = deque()
        self.in_call = False
        self.since = 0.0

    def held_queue(self, key: Key) -> "deque[Work]":
        """The works of a key that is set apart; made when the key is set apart first."""
        queue: deque[Work] | None = self.held.get(key)
        if queue is None:
            queue = self.held[key] = deque()
        return queue


class Batcher:
    """All lanes of one batch function. `window_s` is in seconds."""

    __slots__ = ("_keys_of", "lanes", "running", "size", "window_s")

    def __init__(self, size: int, window_s: float, keys_of: KeysOf) -> None:
        self.size = size
        self.window_s = window_s
        self._keys_of = keys_of
        self.lanes: dict[TopicPartition, BatchLane] = {}
        self.running: set[Batch] = set()

    def lane(self, partition: TopicPartition) -> BatchLane:
        """The lane of a partition, made when first needed."""
        found = self.lanes.get(partition)
        if found is None:
            found = self.lanes[partition] = BatchLane(partition)
        return found

    def admit(self, entry: Entry, indexes: Sequence[int], now: float) -> None:
        """Enters records in offset order."""
        lane = self.lane(entry.batch.partition)
        if not lane.buffered:
            lane.since = now
        lane.buffer.append((entry, indexes))
        lane.buffered += len(indexes)

    def wake_at(self) -> float | None:
        """When the next batch may leave at the latest, 0 for at once; None while nothing waits that may leave."""
        free = [lane for lane in self.lanes.values() if not lane.in_call and (lane.buffered or lane.ripe)]
        if not free:
            return None
        if any(lane.ripe for lane in free) or sum(lane.buffered for lane in free) >= self.size:
            return 0.0
        return min(lane.since for lane in free) + self.window_s if self.window_s else 0.0

    def take(self, now: float) -> Batch | None:
        """A batch to call the function with, or None when none is due."""
        wake_at = self.wake_at()
        if wake_at is None or wake_at > now:
            return None
        batch = Batch()
        room = self.size
        for partition in list(self.lanes):
            lane = self.lanes[partition]
            if lane.in_call or not room:
                continue
            taken = self._take_ripe(lane, batch, room)
            taken += self._take_fresh(lane, batch, room - taken)
            if taken:
                room -= taken
                lane.in_call = True
                batch.lanes.append(lane)
                self.lanes[partition] = self.lanes.pop(partition)
        if not batch.lanes:
            return None
        self.running.add(batch)
        return batch

    @staticmethod
    def _take_ripe(lane: BatchLane, batch: Batch, room: int) -> int:
        taken = 0
        for _ in range(len(lane.ripe)):
            if taken == room:
                break
            queue = lane.held_queue(lane.ripe.popleft())
            while queue and taken < room:
                batch.retried.append(queue.popleft())
                taken += 1
        return taken

    def _take_fresh(self, lane: BatchLane, batch: Batch, room: int) -> int:
        taken = 0
        while lane.buffer and taken < room:
            entry, indexes = lane.buffer.popleft()
            if len(indexes) > room - taken:
                lane.buffer.appendleft((entry, indexes[room - taken :]))
                indexes = indexes[: room - taken]
            lane.buffered -= len(indexes)
            if lane.held:
                indexes = self._set_apart(lane, entry, indexes)
            if indexes:
                batch.parts.append((entry, indexes))
                taken += len(indexes)
        return taken

    def _set_apart(self, lane: BatchLane, entry: Entry, indexes: Sequence[int]) -> list[int]:
        rest = []
        for index, key in zip(indexes, self._keys_of(entry, indexes), strict=True):
            if key in lane.held:
                lane.held_queue(key).append(Work(entry, index, key, lane))
            else:
                rest.append(index)
        return rest

    def works(self, batch: Batch) -> list[Work]:
        """The batch record by record, aligned with what the function was given. For calls that failed."""
        works = list(batch.retried)
        for entry, indexes in batch.parts:
            lane = self.lane(entry.batch.partition)
            keys = self._keys_of(entry, indexes)
            works += [Work(entry, index, key, lane) for index, key in zip(indexes, keys, strict=True)]
        return works

    def finish(self, batch: Batch, again: Iterable[Work] = ()) -> list[Work]:
        """The call of a batch ended. `again` are the works to be repeated, in the batch's order.

        Returns the first work of each key in `again`: the caller parks it and hands it to `resume` when it is due.
        """
        self.running.discard(batch)
        heads: dict[tuple[TopicPartition, Key], Work] = {}
        repeated: dict[tuple[TopicPartition, Key], list[Work]] = {}
        for work in again:
            at = (work.lane.partition, work.key)
            heads.setdefault(at, work)
            repeated.setdefault(at, []).append(work)
        for (partition, key), works in repeated.items():
            self.lane(partition).held_queue(key).extendleft(reversed(works))
        for work in batch.retried:
            if (work.lane.partition, work.key) not in repeated:
                self._release(self.lane(work.lane.partition), work.key)
        for lane in batch.lanes:
            lane.in_call = False
        return list(heads.values())

    @staticmethod
    def _release(lane: BatchLane, key: Key) -> None:
        if lane.held.get(key):
            if key not in lane.ripe:
                lane.ripe.append(key)
        else:
            lane.held.pop(key, None)

    def resume(self, work: Work) -> None:
        """The retry of the first work of a key is due."""
        self.lane(work.lane.partition).ripe.append(work.key)

    def horizon(self, partition: TopicPartition) -> int:
        """One more than the highest offset of the partition that is in a call, 0 if none is."""
        highest = 0
        for batch in self.running:
            offsets = [work.offset for work in batch.retried if work.lane.partition == partition]
            offsets += [e.batch.offsets[i[-1]] for e, i in batch.parts if e.batch.partition == partition]
            highest = max(highest, *(offset + 1 for offset in offsets), 0)
        return highest

    def drop(self, partition: TopicPartition, beyond: int, parked: Iterable[Work] = ()) -> None:
        """Forgets what is not in a call and stands at offset `beyond` or higher."""
        lane = self.lanes.get(partition)
        if lane is None:
            return
        parts = [(e, [i for i in indexes if e.batch.offsets[i] < beyond]) for e, indexes in lane.buffer]
        lane.buffer = deque((e, indexes) for e, indexes in parts if indexes)
        lane.buffered = sum(len(indexes) for _, indexes in lane.buffer)
        lane.since = float("-inf")  # what is left does not wait for its window: the partition is given up
        for key, queue in list(lane.held.items()):
            kept = deque(work for work in queue or () if work.offset < beyond)
            lane.held[key] = kept
            if queue and not kept:
                del lane.held[key]
        lane.ripe = deque(key for key in lane.ripe if lane.held.get(key))

    def busy(self, partition: TopicPartition) -> bool:
        """Whether something of the partition is in a call or waits for one that is not parked."""
        lane = self.lanes.get(partition)
        return lane is not None and bool(lane.in_call or lane.buffered or lane.ripe)
