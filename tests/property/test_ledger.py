"""The ledger against a sorted set of unsettled offsets."""

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamproc.core.ledger import Entry, Ledger
from tests.unit.core.build import P0, batch, decoded


class LedgerMachine(RuleBasedStateMachine):
    """`left` is the model: offset -> functions that must still settle it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[int, int] = {}
        self.touched: set[int] = set()
        self.entries: list[Entry] = []

    @initialize(start=st.integers(0, 5))
    def begin(self, start: int) -> None:
        self.ledger = Ledger(P0, epoch=1, start=start)
        self.admitted = start

    @precondition(lambda self: self.ledger.open)
    @rule(
        gaps=st.lists(st.integers(0, 3), max_size=6),
        tail=st.integers(0, 4),
        functions=st.lists(st.integers(1, 4), min_size=6, max_size=6),
        nbytes=st.integers(0, 100),
    )
    def admit(self, gaps: list[int], tail: int, functions: list[int], nbytes: int) -> None:
        """Offsets with gaps before, between and after the records; also batches without any."""
        offsets, at = [], self.admitted
        for gap in gaps:
            offsets.append(at + gap)
            at += gap + 1
        raw = batch(offsets, start=self.admitted, next_offset=at + tail, nbytes=nbytes)
        entry = self.ledger.admit(decoded(raw), now=float(len(self.entries)))
        for index, offset in enumerate(offsets):
            self.left[offset] = functions[index]
            if functions[index] > 1:
                entry.expect(index, functions[index])
        self.entries.append(entry)
        self.admitted = at + tail

    def _pick(self, data: st.DataObject, *, settled: bool) -> tuple[Entry, list[int]] | None:
        """An entry and some of its records that are (not) settled."""
        found = []
        for entry in self.entries:
            indexes = [i for i, one in enumerate(entry.batch.records) if (not self.left[one.offset]) is settled]
            if indexes:
                found.append((entry, indexes))
        if not found:
            return None
        entry, indexes = data.draw(st.sampled_from(found))
        return entry, data.draw(st.lists(st.sampled_from(indexes), min_size=1, unique=True))

    def _settle(self, entry: Entry, indexes: Iterable[int]) -> int:
        done = 0
        for index in indexes:
            offset = entry.batch.records[index].offset
            self.left[offset] -= 1
            self.touched.add(offset)
            done += not self.left[offset]
        return done

    @precondition(lambda self: self.ledger.open and any(self.left.values()))
    @rule(data=st.data())
    def settle_some(self, data: st.DataObject) -> None:
        """One function is done with some records of a batch."""
        picked = self._pick(data, settled=False)
        assert picked is not None
        assert self.ledger.settle(*picked) == self._settle(*picked)

    @precondition(lambda self: self.ledger.open and any(self.left.values()))
    @rule(data=st.data())
    def settle_one(self, data: st.DataObject) -> None:
        """One function is done with one record."""
        picked = self._pick(data, settled=False)
        assert picked is not None
        entry, (index, *_) = picked
        self.ledger.settle_one(entry, index)
        self._settle(entry, [index])

    @precondition(lambda self: self.ledger.open)
    @rule(data=st.data(), many=st.booleans())
    def settle_twice(self, data: st.DataObject, many: bool) -> None:
        """EXACT-SETTLE: it raises, and changes nothing that was settled."""
        picked = self._pick(data, settled=True)
        if picked is not None:
            entry, (index, *_) = picked
            with pytest.raises(AssertionError, match="settled twice"):
                self.ledger.settle(entry, [index]) if many else self.ledger.settle_one(entry, index)

    @precondition(lambda self: self.ledger.open)
    @rule(off=st.integers(-3, 3).filter(bool))
    def admit_what_starts_elsewhere(self, off: int) -> None:
        """CONTIGUOUS: what does not start where the ledger stands is refused, behind it or beyond."""
        start = self.admitted + off
        if start >= 0:
            with pytest.raises(AssertionError, match="read from"):
                self.ledger.admit(decoded(batch([start + 2], start=start)), now=0.0)

    @precondition(lambda self: self.ledger.open)
    @rule()
    def close(self) -> None:
        """FENCED: what comes in later is ignored."""
        self.ledger.close()

    @precondition(lambda self: not self.ledger.open)
    @rule(data=st.data())
    def settle_after_the_end(self, data: st.DataObject) -> None:
        """Neither counted nor refused."""
        picked = self._pick(data, settled=data.draw(st.booleans()))
        if picked is not None:
            assert self.ledger.settle(*picked) == 0
            self.ledger.settle_one(picked[0], picked[1][0])
            assert self.ledger.unsettled == 0

    @invariant()
    def agrees_with_the_model(self) -> None:
        """SAFE-COMMIT: the position is the lowest unsettled offset."""
        if not self.ledger.open:
            assert (self.ledger.unsettled, self.ledger.nbytes) == (0, 0)
            return
        unsettled = sorted(offset for offset, left in self.left.items() if left)
        position = unsettled[0] if unsettled else self.admitted
        assert self.ledger.position() == position
        assert self.ledger.unsettled == len(unsettled)
        assert self.ledger.admitted == self.admitted

    @invariant()
    def keeps_only_what_it_must(self) -> None:
        """Entries, and their bytes, from the first that is not settled on."""
        if self.ledger.open:
            open_ones = [any(self.left[one.offset] for one in entry.batch.records) for entry in self.entries]
            kept = self.entries[open_ones.index(True) :] if any(open_ones) else []
            assert list(self.ledger.entries) == kept
            assert self.ledger.nbytes == sum(entry.batch.nbytes for entry in kept)
            assert self.ledger.oldest_since() == (kept[0].since if kept else 0.0)
            beyond = [offset + 1 for offset in self.touched if kept and offset >= kept[0].batch.records[0].offset]
            assert self.ledger.horizon() == max(beyond, default=self.ledger.position())


TestLedger = LedgerMachine.TestCase
