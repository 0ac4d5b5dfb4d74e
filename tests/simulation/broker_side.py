"""Judges what goes to the broker: dead letters and commits. SAFE-COMMIT, FENCED, DEAD-BEFORE-DONE, EXACT-SETTLE, L."""

from collections.abc import Mapping, Sequence
from typing import Any

from streamproc.model import TopicPartition
from tests.simulation.book import At, Book, at
from tests.simulation.facts import Epoch

Ending = tuple[At, "Epoch | None", str]
"""A dead letter, its epoch, and how it ended: acked, refused or too_large."""


class Letters:
    """Told of each dead letter that is handed to the producer, and of how that ends."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def sending(self, member: Any, letters: Sequence[At]) -> list[Epoch | None]:
        """Returns the epochs they belong to."""
        epochs = [self._book.epochs[member].get(partition) for partition, _, _ in letters]
        for (partition, offset, function), epoch in zip(letters, epochs, strict=True):
            name = f"{member} sends a dead letter of {at(partition, offset)} for {function or 'nobody'}"
            self._book.tell(name)
            if epoch is None:
                self._book.fail("FENCED", f"{name}, whose partition was revoked")
            elif (function, offset) in epoch.acked:
                self._book.fail("EXACT-SETTLE", f"{name}, which was acknowledged before")
            elif function and epoch.finished.get((function, offset)) != "dead":
                self._book.fail("FENCED", f"{name}, which has not ended so in this epoch")
        return epochs

    def ended(self, endings: Sequence[Ending]) -> None:
        """The producer has answered."""
        for (partition, offset, function), epoch, how in endings:
            self._book.tell(f"the dead letter of {at(partition, offset)} is {how}")
            if how == "acked":
                self._book.counts.letters += 1
                if epoch is not None and not epoch.closed:
                    epoch.acked.add((function, offset))
                    epoch.settle_part(offset)
            else:
                self._book.counts.letters_refused += 1
                if epoch is not None:
                    epoch.refusals += 1

    def written(self, partition: TopicPartition, offset: int, function: str, value: bytes | None) -> None:
        """The broker has written one, whether or not anybody learns of it."""
        made = self._book.logs[partition].seen[offset].made
        self._book.buried[partition, offset, function] += 1
        if value != made.value and value != (made.value or b"")[:1024]:
            self._book.fail("L", f"the dead letter of {at(partition, offset)} holds something else")


class Commits:
    """Told of each commit that is asked for, and of each that the broker has taken."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._before: dict[TopicPartition, int] = {}
        self._asked: dict[Any, dict[TopicPartition, Epoch | None]] = {}
        self.failed: dict[Any, bool] = {}
        """Whether a member's last commit was not acknowledged."""
        self._trouble_at: dict[Any, float] = {}
        self._waiting: set[Any] = set()

    def calm_since(self, member: Any, when: float) -> bool:
        """Whether a member's commits have neither failed nor taken long since then."""
        return member not in self._waiting and self._trouble_at.get(member, 0.0) < when

    def asked(self, member: Any, offsets: Mapping[TopicPartition, int]) -> None:
        """A member asks for a commit."""
        book = self._book
        book.tell(f"{member} commits {' '.join(at(p, offset) for p, offset in offsets.items())}")
        book.counts.commits += 1
        self._waiting.add(member)
        self._asked[member] = {partition: book.epochs[member].get(partition) for partition in offsets}
        for partition, offset in offsets.items():
            epoch = self._asked[member][partition]
            if epoch is None:
                book.fail("FENCED", f"{member} commits {at(partition, offset)}, which was revoked")
            else:
                self._check(epoch, offset)

    def _check(self, epoch: Epoch, offset: int) -> None:
        position = epoch.position
        name = f"{epoch.member} commits {at(epoch.partition, offset)}"
        if offset > position:
            letter = position < epoch.admitted and epoch.awaits_letter(position)
            invariant = "DEAD-BEFORE-DONE" if letter else "SAFE-COMMIT"
            self._book.fail(invariant, f"{name} while {position} is not settled")
        if offset < epoch.asked:
            self._book.fail("SAFE-COMMIT", f"{name} after {epoch.asked}")
        epoch.asked = offset

    def ended(self, member: Any, *, ok: bool, took_s: float) -> None:
        """The commit was acknowledged, or its member knows of no acknowledgement."""
        self.failed[member] = not ok
        self._book.counts.commits_failed += not ok
        self._waiting.discard(member)
        if not ok or took_s > 0.01:
            self._trouble_at[member] = self._book.now()

    def taken(self, member: Any, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has taken a commit."""
        for partition, offset in offsets.items():
            name = f"the broker takes {at(partition, offset)} from {member}"
            self._book.tell(name)
            epoch = self._asked[member].get(partition)
            if epoch is None or (epoch.closed and not member.dead):
                self._book.fail("FENCED", f"{name}, asked for in an epoch that has ended")
            before = self._before.get(partition, 0)
            if offset < before:
                self._book.fail("FENCED", f"{name} after {before}")
            for one in range(before, offset):
                if not self._book.done(partition, one):
                    self._book.fail("L", f"{name} although {one} was neither handled nor dead-lettered")
            self._before[partition] = max(before, offset)
