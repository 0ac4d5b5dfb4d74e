"""The lanes against a list of offsets per key."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamproc.adapters.memory import StoredRecord
from streamproc.core.lanes import Lanes, Work
from streamproc.core.ledger import Ledger
from streamproc.model import Decoded, Event, RecordBatch, TopicPartition

PARTITIONS = [TopicPartition("t", 0), TopicPartition("t", 1)]
KEYS = [b"a", b"b", b"c", None]
Name = tuple[TopicPartition, object]


class Nothing(Event, tag="nothing"):
    """An event."""


class Against(RuleBasedStateMachine):
    """`queued` is key -> offsets of this epoch that did not end; `running` and `parked` are works."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.ledgers = {where: Ledger(where, epoch=1, start=0) for where in PARTITIONS}
        self.queued: dict[Name, list[int]] = defaultdict(list)
        self.running: list[Work] = []
        self.parked: list[Work] = []

    @rule(where=st.sampled_from(PARTITIONS), keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6))
    def admit(self, where: TopicPartition, keys: list[object]) -> None:
        """A batch of records."""
        ledger = self.ledgers[where]
        offsets = range(ledger.admitted, ledger.admitted + len(keys))
        records = [StoredRecord(offset, 0, None, b"") for offset in offsets]
        batch = RecordBatch(where, records, next_offset=offsets.stop, nbytes=0)
        entry = ledger.admit(Decoded(batch, [Nothing()] * len(keys), []), now=1.0)
        self.lanes.admit(entry, range(len(keys)), keys)
        for offset, key in zip(offsets, keys, strict=True):
            self.queued[where, key].append(offset)

    @precondition(lambda self: self.lanes.ready)
    @rule()
    def take(self) -> None:
        """KEY-ORDER and ONE-IN-FLIGHT: what is taken is its key's first, and nothing else of the key is under way."""
        work = self.lanes.take()
        name = (work.lane.partition, work.key)
        assert self._is_current(work)
        assert self.queued[name][0] == work.offset
        assert all((other.lane.partition, other.key) != name for other in (*self.running, *self.parked))
        self.running.append(work)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A call ends, of this epoch or of an old one."""
        work = data.draw(st.sampled_from(self.running))
        self.running.remove(work)
        if self._is_current(work):
            self.queued[work.lane.partition, work.key].remove(work.offset)
        self.lanes.release(work)

    @precondition(lambda self: any(map(self._is_current, self.running)))
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        """A call fails and is to be repeated."""
        work = data.draw(st.sampled_from([work for work in self.running if self._is_current(work)]))
        self.running.remove(work)
        self.lanes.hold(work)
        self.parked.append(work)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """A retry is due."""
        work = data.draw(st.sampled_from(self.parked))
        self.parked.remove(work)
        self.lanes.resume(work)

    @rule(where=st.sampled_from(PARTITIONS))
    def revoke(self, where: TopicPartition) -> None:
        """The partition goes and comes back: what did not end is delivered again, behind calls that still run."""
        self.lanes.drop(where, 0, self.parked)
        self.parked = [work for work in self.parked if work.lane.partition != where]
        self.ledgers[where].close()
        self.ledgers[where] = Ledger(where, epoch=self.ledgers[where].epoch + 1, start=0)
        for key in KEYS:
            self.queued[where, key] = []

    @rule(where=st.sampled_from(PARTITIONS), beyond=st.integers(0, 30))
    def drop(self, where: TopicPartition, beyond: int) -> None:
        """A drain forgets what stands high and has not begun."""
        self.lanes.drop(where, beyond, self.parked)
        kept = {work.offset for work in self.running if work.lane.partition == where and self._is_current(work)}
        self.parked = [work for work in self.parked if work.lane.partition != where or work.offset < beyond]
        for key in KEYS:
            offsets = self.queued[where, key]
            self.queued[where, key] = [offset for offset in offsets if offset < beyond or offset in kept]

    def _is_current(self, work: Work) -> bool:
        return work.entry.ledger is self.ledgers[work.lane.partition]

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """Each key with something queued has its first in exactly one place, or waits for a call of an old epoch."""
        heads = [*self.lanes.ready, *self.running, *self.parked]
        names = [(work.lane.partition, work.key) for work in heads]
        assert len(names) == len(set(names))
        assert {name for name, offsets in self.queued.items() if offsets} <= set(names)
        under_way = sum(self._is_current(work) for work in heads)
        assert self.lanes.waiting == sum(map(len, self.queued.values())) - under_way


class TestLanes(Against.TestCase):  # type: ignore[misc]
    """Run by pytest."""

    settings = settings(max_examples=150, stateful_step_count=40, deadline=None, print_blob=True)
