"""Which offset of a partition may be committed.

A ledger belongs to one partition in one epoch (from its assignment to its revocation). Its unit is the record batch:
an Entry keeps, for each record of the batch, how many functions still have to settle it, and how many records of the
batch are left. Entries stand in offset order. The prefix that may be committed ends at the first record with
something pending; whole entries are passed without a look at their records, so settling costs two subtractions.

CONTIGUOUS: an entry starts where the one before it ended, so that the ledger takes all that the log holds, or raises.
SAFE-COMMIT: `position()` never passes an unsettled record. EXACT-SETTLE: settling a settled record raises.
FENCED: a closed ledger ignores what still comes in. Offsets without a record (compaction, transaction markers) are
passed with the batch that follows or contains them.
"""

from collections import deque
from collections.abc import Iterable

from streamproc.model import Decoded, PartitionSnapshot, TopicPartition


class Entry:
    """A record batch on its way through the functions, with its records' events and the producers' event ids.

    `ids` is empty, or holds "" where the producer gave none.
    """

    __slots__ = ("batch", "events", "ids", "ledger", "left", "pending", "shared", "since")

    def __init__(self, ledger: "Ledger", decoded: Decoded, *, since: float) -> None:
        batch = decoded.batch
        self.ledger = ledger
        self.batch = batch
        self.events = decoded.events
        self.ids = decoded.ids
        self.since = since
        self.left = len(batch.offsets)
        self.pending = bytearray(b"\1" * self.left)
        self.shared: dict[int, int] = {}

    def event_id(self, index: int) -> str:
        """The producer's event id, else `topic/partition/offset`, which is the same at each delivery."""
        given = self.ids[index] if self.ids else ""
        if given:
            return given
        topic, partition = self.batch.partition
        return f"{topic}/{partition}/{self.batch.offsets[index]}"

    def expect(self, index: int, functions: int) -> None:
        """Says how many functions must settle a record; before any has."""
        self.pending[index] = functions
        self.shared[index] = functions

    def touched(self) -> int:
        """One more than the index of the last record that a function has settled, 0 when none has."""
        partly = [index for index, functions in self.shared.items() if self.pending[index] < functions]
        return max(self.pending.rfind(0), *partly, -1) + 1


class Ledger:
    """The entries of one partition in one epoch, from the first that is not settled on."""

    __slots__ = ("admitted", "committed", "entries", "epoch", "nbytes", "open", "partition", "unsettled")

    def __init__(self, partition: TopicPartition, *, epoch: int, start: int) -> None:
        self.partition = partition
        self.epoch = epoch
        self.open = True
        self.committed = start
        self.admitted = start
        self.unsettled = 0
        self.nbytes = 0
        self.entries: deque[Entry] = deque()

    def admit(self, decoded: Decoded, *, now: float) -> Entry:
        """Enters a batch, which must start where the ledger stands (CONTIGUOUS)."""
        batch = decoded.batch
        if batch.start != self.admitted:
            raise AssertionError(
                f"{self.partition}: a batch read from {batch.start} after {self.admitted} was admitted"
            )
        entry = Entry(self, decoded, since=now)
        self.admitted = batch.next_offset
        self.unsettled += entry.left
        self.nbytes += batch.nbytes
        self.entries.append(entry)
        if not entry.left:
            self.advance()
        return entry

    def settle(self, entry: Entry, indexes: Iterable[int]) -> int:
        """One function is done with these records; returns how many of them are settled now."""
        if not self.open:
            return 0
        pending = entry.pending
        settled = 0
        if (
            isinstance(indexes, range)
            and indexes.step == 1
            and pending.count(1, indexes.start, indexes.stop) == len(indexes)
        ):
            pending[indexes.start : indexes.stop] = bytes(len(indexes))
            settled, indexes = len(indexes), ()
        for index in indexes:
            count = pending[index]
            if count == 1:
                settled += 1
            elif not count:
                raise AssertionError(f"{self.partition}: offset {entry.batch.offsets[index]} settled twice")
            pending[index] = count - 1
        if settled:
            self.unsettled -= settled
            entry.left -= settled
            if not entry.left:
                self.advance()
        return settled

    def settle_one(self, entry: Entry, index: int) -> None:
        """`settle` for a single record."""
        if not self.open:
            return
        count = entry.pending[index]
        if not count:
            raise AssertionError(f"{self.partition}: offset {entry.batch.offsets[index]} settled twice")
        entry.pending[index] = count - 1
        if count == 1:
            self.unsettled -= 1
            entry.left -= 1
            if not entry.left:
                self.advance()

    def advance(self) -> None:
        """Forgets the entries at the head of which nothing is left."""
        entries = self.entries
        while entries and not entries[0].left:
            self.nbytes -= entries.popleft().batch.nbytes

    def position(self) -> int:
        """The lowest unsettled offset, or the next to be admitted when all is settled."""
        if not self.entries:
            return self.admitted
        head = self.entries[0]
        first = len(head.pending) - len(head.pending.lstrip(b"\0"))
        return head.batch.offsets[first]

    def horizon(self) -> int:
        """One more than the highest offset that a function has settled, or `position()` when there is none."""
        for entry in reversed(self.entries):
            if touched := entry.touched():
                return entry.batch.offsets[touched - 1] + 1
        return self.position()

    def oldest_since(self) -> float:
        """When the oldest unsettled record was admitted, 0 when there is none."""
        return self.entries[0].since if self.entries else 0.0

    def close(self) -> None:
        """Fences the ledger: nothing changes it any more."""
        self.open = False
        self.entries.clear()
        self.unsettled = 0
        self.nbytes = 0

    def snapshot(self, blocked: str, detail: str = "") -> PartitionSnapshot:
        """Frozen numbers; `blocked` is why the partition is not read on, `detail` what to do."""
        return PartitionSnapshot(
            partition=self.partition,
            epoch=self.epoch,
            committed=self.committed,
            done=self.position(),
            admitted=self.admitted,
            unsettled=self.unsettled,
            oldest_since=self.oldest_since(),
            blocked=blocked,
            detail=detail,
        )
