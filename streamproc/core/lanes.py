"""Order per key for functions that take one event a call.

A lane is one partition of one function: a dict from key to its head, the one record of the key that is ready, in a
call or parked for its retry. What comes later stands in a chain behind the head. So a key's records run one at a time
in offset order (ONE-IN-FLIGHT, KEY-ORDER), a waiting key costs no worker, and one without a backlog one dict entry.
Ready work of all keys stands in one queue, first come first served, which is fair across keys.

A key that is in a call when its partition is revoked stays held: if the partition comes back, the record delivered
again waits for the old call to end.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from operator import is_, is_not
from typing import Any

import msgspec

from streamproc.core.ledger import Entry
from streamproc.model import TopicPartition

Key = object


class Lane:
    """One partition of one function: its held keys with their heads, and how many records of it are done."""

    __slots__ = ("done", "held", "partition")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.held: dict[Key, Any] = {}
        self.done = 0


class Work(msgspec.Struct, eq=False, gc=False):
    """One record for one function; a Struct, because one is made for each record.

    The garbage collector need not know it: the lane that refers to it lets go of it when its last call ends.
    `attempt` counts calls from 1; `since` is when it first failed, 0 if never. `behind` is the next work of its key;
    where there is one, the key's head knows the `last`.
    """

    entry: Entry
    index: int
    key: Key
    lane: Lane
    attempt: int = 1
    since: float = 0.0
    in_call: bool = False
    behind: "Work | None" = None
    last: "Work | None" = None

    @property
    def offset(self) -> int:
        """The record's offset."""
        return self.entry.batch.offsets[self.index]

    def chain(self) -> Iterator["Work"]:
        """The later works of its key, in order."""
        work = self.behind
        while work is not None:
            yield work
            work = work.behind


class Lanes:
    """All lanes of one function."""

    __slots__ = ("lanes", "ready")

    def __init__(self) -> None:
        self.lanes: dict[TopicPartition, Lane] = {}
        self.ready: deque[Work] = deque()

    def lane(self, partition: TopicPartition) -> Lane:
        """The lane of a partition, made when first needed."""
        found = self.lanes.get(partition)
        if found is None:
            found = self.lanes[partition] = Lane(partition)
        return found

    @property
    def running(self) -> set[Work]:
        """What is in a call."""
        return {work for lane in self.lanes.values() for work in lane.held.values() if work.in_call}

    @property
    def waiting(self) -> int:
        """How many records wait behind another of their key."""
        return sum(1 for lane in self.lanes.values() for head in lane.held.values() for _ in head.chain())

    def admit(self, entry: Entry, indexes: Sequence[int], keys: Sequence[Key]) -> None:
        """Enters records in offset order; `keys` aligns with `indexes`."""
        lane = self.lane(entry.batch.partition)
        works = list(map(Work, repeat(entry), indexes, keys, repeat(lane)))
        heads: list[Work] = list(map(lane.held.setdefault, keys, works))
        self.ready.extend(compress(works, map(is_, heads, works)))
        for head, work in compress(zip(heads, works, strict=True), map(is_not, heads, works)):
            (head.last or head).behind = work
            head.last = work

    def take(self) -> Work:
        """The next record to call the function with; there must be one that is ready."""
        work = self.ready.popleft()
        work.in_call = True
        return work

    def release(self, work: Work) -> None:
        """The call of this work ended and it is not to be repeated: the key's next record is ready."""
        head = work.behind
        if head is None:
            del work.lane.held[work.key]
            return
        if head.behind is not None:
            head.last = work.last
        work.lane.held[work.key] = head
        self.ready.append(head)

    def finish(self, work: Work) -> None:
        """The call of this work went well: it settles, and the key's next record is ready.

        `Ledger.settle_one` and `release` in one step, which is taken for nearly every record.
        """
        entry, index, lane = work.entry, work.index, work.lane
        ledger = entry.ledger
        if entry.pending[index] == 1 and ledger.open:
            entry.pending[index] = 0
            ledger.unsettled -= 1
            entry.left -= 1
            if not entry.left:
                ledger.advance()
        else:
            ledger.settle_one(entry, index)
        lane.done += 1
        head = work.behind
        if head is None:
            del lane.held[work.key]
        else:
            if head.behind is not None:
                head.last = work.last
            lane.held[work.key] = head
            self.ready.append(head)

    def hold(self, work: Work) -> None:
        """The call of this work ended and it will be repeated: its key stays held, no worker does."""
        work.in_call = False

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
            del lane.held[work.key]
        for head in lane.held.values():
            kept = [work for work in head.chain() if work.offset < beyond]
            head.last = kept[-1] if kept else None
            (head.last or head).behind = None

    def busy(self, partition: TopicPartition) -> bool:
        """Whether something of the partition is in a call or ready for one."""
        return any(work.lane.partition == partition for work in (*self.running, *self.ready))
