"""Order per key for functions that take one event a call.

A lane is one partition of one function: a dict from key to what waits behind the record of that key which is ready,
in a call or parked for its retry: None while nothing waits, else a queue. So a key's records run one at a time in
offset order (ONE-IN-FLIGHT, KEY-ORDER), a waiting key costs no worker, and a key without a backlog costs one dict
entry. Ready work of all keys stands in one queue, first come first served, which is fair across keys.

A key that is in a call when its partition is revoked stays held: if the partition comes back, the record delivered
again waits for the old call to end.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from streamproc.core.ledger import Entry
from streamproc.model import TopicPartition

Key = object


class Lane:
    """One partition of one function: its held keys, and how many records of it are done."""

    __slots__ = ("done", "held", "partition")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.held: dict[Key, deque[Work] | None] = {}
        self.done = 0


class Work:
    """One record for one function. `attempt` counts calls from 1; `since` is when it first failed, 0 if never."""

    __slots__ = ("attempt", "entry", "index", "key", "lane", "since")

    def __init__(self, entry: Entry, index: int, key: Key, lane: Lane) -> None:
        self.entry = entry
        self.index = index
        self.key = key
        self.lane = lane
        self.attempt = 1
        self.since = 0.0

    @property
    def offset(self) -> int:
        """The record's offset."""
        return self.entry.batch.records[self.index].offset


class Lanes:
    """All lanes of one function."""

    __slots__ = ("lanes", "ready", "running", "waiting")

    def __init__(self) -> None:
        self.lanes: dict[TopicPartition, Lane] = {}
        self.ready: deque[Work] = deque()
        self.running: set[Work] = set()
        self.waiting = 0

    def lane(self, partition: TopicPartition) -> Lane:
        """The lane of a partition, made when first needed."""
        found = self.lanes.get(partition)
        if found is None:
            found = self.lanes[partition] = Lane(partition)
        return found

    def admit(self, entry: Entry, indexes: Sequence[int], keys: Iterable[Key]) -> None:
        """Enters records in offset order; `keys` aligns with `indexes`."""
        lane = self.lane(entry.batch.partition)
        held = lane.held
        ready = self.ready.append
        for index, key in zip(indexes, keys, strict=True):
            work = Work(entry, index, key, lane)
            if key in held:
                self.waiting += 1
                queue = held[key]
                if queue is None:
                    held[key] = deque((work,))
                else:
                    queue.append(work)
            else:
                held[key] = None
                ready(work)

    def take(self) -> Work:
        """The next record to call the function with; there must be one that is ready."""
        work = self.ready.popleft()
        self.running.add(work)
        return work

    def release(self, work: Work) -> None:
        """The call of this work ended and it is not to be repeated: the key's next record is ready."""
        self.running.discard(work)
        held = work.lane.held
        queue = held[work.key]
        if queue is None:
            del held[work.key]
            return
        self.waiting -= 1
        self.ready.append(queue.popleft())
        if not queue:
            held[work.key] = None

    def hold(self, work: Work) -> None:
        """The call of this work ended and it will be repeated: its key stays held, no worker does."""
        self.running.discard(work)

    def resume(self, work: Work) -> None:
        """A parked work's time has come."""
        self.ready.append(work)

    def horizon(self, partition: TopicPartition) -> int:
        """One more than the highest offset of the partition that is in a call, 0 if none is."""
        return max((work.offset + 1 for work in self.running if work.lane.partition == partition), default=0)

    def drop(self, partition: TopicPartition, beyond: int, parked: Iterable[Work]) -> None:
        """Forgets what is not in a call and stands at offset `beyond` or higher; `parked` are all parked works."""
        lane = self.lanes.get(partition)
        if lane is None:
            return
        heads = [work for work in (*self.ready, *parked) if work.lane is lane and work.offset >= beyond]
        gone = set(heads)
        self.ready = deque(work for work in self.ready if work not in gone)
        for work in heads:
            self.waiting -= len(lane.held.pop(work.key) or ())
        for key, queue in lane.held.items():
            kept = [work for work in queue or () if work.offset < beyond]
            self.waiting -= len(queue or ()) - len(kept)
            lane.held[key] = deque(kept) or None

    def busy(self, partition: TopicPartition) -> bool:
        """Whether something of the partition is in a call or ready for one."""
        return any(work.lane.partition == partition for work in (*self.running, *self.ready))
