"""The ledger against a dict of offsets and what they still wait for."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamproc.adapters.memory import StoredRecord
from streamproc.core.ledger import Entry, Ledger
from streamproc.model import Decoded, Event, RecordBatch, TopicPartition

WHERE = TopicPartition("t", 0)


class Nothing(Event, tag="nothing"):
    """An event."""


class Against(RuleBasedStateMachine):
    """`pending` is offset -> functions that still have to settle it; `where` is offset -> (entry, index)."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(WHERE, epoch=1, start=10)
        self.admitted = 10
        self.pending: dict[int, int] = {}
        self.where: dict[int, tuple[Entry, int]] = {}
        self.settled: set[int] = set()

    @rule(gaps=st.lists(st.integers(0, 3), max_size=6), tail=st.integers(0, 3), functions=st.integers(1, 3))
    def admit(self, gaps: list[int], tail: int, functions: int) -> None:
        """A batch with gaps between its offsets, and markers behind its last record."""
        offsets = []
        offset = self.admitted
        for gap in gaps:
            offset += gap
            offsets.append(offset)
            offset += 1
        records = [StoredRecord(offset, 0, None, b"") for offset in offsets]
        batch = RecordBatch(WHERE, records, next_offset=offset + tail, nbytes=len(records))
        entry = self.ledger.admit(Decoded(batch, [Nothing()] * len(records), []), now=1.0)
        for index, offset in enumerate(offsets):
            if functions > 1:
                entry.expect(index, functions)
            self.pending[offset] = functions
            self.where[offset] = (entry, index)
        self.admitted = batch.next_offset

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def settle_one(self, data: st.DataObject) -> None:
        """One function is done with one record."""
        offset = data.draw(st.sampled_from(sorted(self.pending)))
        self.ledger.settle_one(*self.where[offset])
        self._count_down(offset)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def settle_some(self, data: st.DataObject) -> None:
        """One function is done with several records of one batch."""
        entry, _ = self.where[data.draw(st.sampled_from(sorted(self.pending)))]
        there = [offset for offset in self.pending if self.where[offset][0] is entry]
        chosen = data.draw(st.lists(st.sampled_from(there), min_size=1, unique=True))
        before = len(self.pending)
        for offset in chosen:
            self._count_down(offset)
        assert self.ledger.settle(entry, [self.where[offset][1] for offset in chosen]) == before - len(self.pending)

    def _count_down(self, offset: int) -> None:
        self.settled.add(offset)
        self.pending[offset] -= 1
        if not self.pending[offset]:
            del self.pending[offset]

    @precondition(lambda self: self.settled - self.pending.keys())
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """EXACT-SETTLE: what is settled cannot settle."""
        offset = data.draw(st.sampled_from(sorted(self.settled - self.pending.keys())))
        try:
            self.ledger.settle_one(*self.where[offset])
        except AssertionError:
            return
        raise RuntimeError(f"offset {offset} settled twice")

    @invariant()
    def commits_are_safe(self) -> None:
        """SAFE-COMMIT: the position is the lowest offset that waits for something."""
        assert self.ledger.position() == min(self.pending, default=self.admitted)

    @invariant()
    def counts_agree(self) -> None:
        """Unsettled records, and the highest that some function has settled."""
        assert self.ledger.unsettled == len(self.pending)
        position = self.ledger.position()
        touched = [offset + 1 for offset in self.settled if offset >= position]
        assert max(position, self.ledger.horizon()) == max([position, *touched])


class TestLedger(Against.TestCase):  # type: ignore[misc]
    """Run by pytest."""

    settings = settings(max_examples=150, stateful_step_count=40, deadline=None, print_blob=True)


def test_a_closed_ledger_ignores_what_comes_in() -> None:
    machine = Against()
    machine.admit([0, 0], 0, 1)
    entry, index = machine.where[10]
    machine.ledger.close()
    machine.ledger.settle_one(entry, index)
    machine.ledger.settle_one(entry, index)
    assert machine.ledger.settle(entry, [0, 1]) == 0
