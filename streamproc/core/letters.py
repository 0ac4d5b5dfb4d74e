"""Dead letters on their way to the broker.

A record that can't be handled settles only when the broker has acknowledged its dead letter (DEAD-BEFORE-DONE). What
the broker refuses is sent again after a while, partition by partition; a partition whose letters were refused
`BLOCKED_AFTER` times in a row is blocked: it is not read on, and nothing of it is lost, until a letter goes through.
"""

from collections import deque
from collections.abc import Sequence

from streamproc.core.ledger import Entry
from streamproc.model import Failure, TopicPartition

BLOCKED_AFTER = 3
BACKOFF_S = 0.5
BACKOFF_MAX_S = 10.0


class Letter:
    """A dead letter: the record and why. `function` is "" when none was called; `since` is 0 then."""

    __slots__ = ("attempts", "condition", "entry", "event_type", "failure", "function", "index", "since")

    def __init__(self, entry: Entry, index: int, *, event_type: str, condition: str, failure: Failure) -> None:
        self.entry = entry
        self.index = index
        self.event_type = event_type
        self.condition = condition
        self.failure = failure
        self.function = ""
        self.attempts = 0
        self.since = 0.0

    @property
    def partition(self) -> TopicPartition:
        """Where the record came from."""
        return self.entry.batch.partition

    @property
    def offset(self) -> int:
        """The record's offset."""
        return self.entry.batch.offsets[self.index]


class _Refusals:
    __slots__ = ("count", "error", "retry_at")

    def __init__(self) -> None:
        self.count = 0
        self.retry_at = 0.0
        self.error = ""


class Letters:
    """All dead letters of one consumer that are not acknowledged."""

    def __init__(self) -> None:
        self._queue: deque[Letter] = deque()
        self._sending: set[Letter] = set()
        self._refusals: dict[TopicPartition, _Refusals] = {}

    def add(self, letter: Letter) -> None:
        """Queues a letter."""
        self._queue.append(letter)

    def take(self, now: float, limit: int) -> list[Letter]:
        """Up to `limit` letters to send now; each comes back through `sent` or `refused`."""
        may_send = [letter for letter in self._queue if self._may_send(letter.partition, now)]
        letters = may_send[:limit]
        if letters:
            taken = set(letters)
            self._queue = deque(letter for letter in self._queue if letter not in taken)
            self._sending |= taken
        return letters

    def _may_send(self, partition: TopicPartition, now: float) -> bool:
        refusals = self._refusals.get(partition)
        return refusals is None or refusals.retry_at <= now

    def sent(self, letters: Sequence[Letter]) -> None:
        """The broker has acknowledged these."""
        self._sending.difference_update(letters)
        for letter in letters:
            self._refusals.pop(letter.partition, None)

    def refused(self, letters: Sequence[Letter], error: str, now: float) -> None:
        """The broker has refused these; they go back to the head of the queue."""
        self._queue.extendleft(reversed(letters))
        self._sending.difference_update(letters)
        for partition in {letter.partition for letter in letters}:
            refusals = self._refusals.setdefault(partition, _Refusals())
            refusals.count += 1
            refusals.error = error
            refusals.retry_at = now + min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(refusals.count - 1, 10))

    def blocked(self, partition: TopicPartition) -> str:
        """The broker's error while the partition's letters are refused again and again, else ""."""
        refusals = self._refusals.get(partition)
        return refusals.error if refusals is not None and refusals.count >= BLOCKED_AFTER else ""

    def busy(self, partition: TopicPartition) -> bool:
        """Whether a letter of the partition is being sent, or is about to be and not known to be refused."""
        if any(letter.partition == partition for letter in self._sending):
            return True
        return partition not in self._refusals and any(letter.partition == partition for letter in self._queue)

    def wake_at(self) -> float | None:
        """When the next letter may be sent, None when there is none."""
        if not self._queue:
            return None
        waiting = {letter.partition for letter in self._queue}
        return min(self._refusals[p].retry_at if p in self._refusals else 0.0 for p in waiting)

    def horizon(self, partition: TopicPartition) -> int:
        """One more than the highest offset of the partition whose letter ends a call or is being sent, 0 if none."""
        called = [letter for letter in self._queue if letter.function]
        begun = [letter.offset for letter in (*called, *self._sending) if letter.partition == partition]
        return max(begun, default=-1) + 1

    def drop(self, partition: TopicPartition, beyond: int) -> None:
        """Forgets the letters of a partition that stand at offset `beyond` or higher; 0 is for a revoked partition."""
        self._queue = deque(letter for letter in self._queue if letter.partition != partition or letter.offset < beyond)
        if not beyond:
            self._refusals.pop(partition, None)
            self._sending = {letter for letter in self._sending if letter.partition != partition}

    def __len__(self) -> int:
        return len(self._queue)
