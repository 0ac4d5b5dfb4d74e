"""Judges how epochs end (guarantee D) and how the run ends (DRAINS, guarantee L)."""

from collections.abc import Collection, Mapping
from typing import Any

from streamproc.model import TopicPartition
from tests.simulation.book import Book, at, named
from tests.simulation.broker_side import Commits
from tests.simulation.facts import Epoch

SLACK_S = 0.02


class Endings:
    """`committed` is what the broker has of the group."""

    def __init__(self, book: Book, commits: Commits, committed: Mapping[TopicPartition, int]) -> None:
        self._book = book
        self._commits = commits
        self._committed = committed

    def giving_up(self, member: Any, partitions: Collection[TopicPartition], budget_s: float) -> None:
        """A member begins to give partitions up, and has so many seconds for it."""
        for partition in partitions:
            if partition in self._book.epochs[member]:
                epoch = self._book.epochs[member][partition]
                epoch.drained_by = min(epoch.drained_by, self._book.now() + budget_s)

    def gave_up(self, member: Any, partitions: Collection[TopicPartition]) -> None:
        """A member has given partitions up, in good order: what finished is committed, nothing runs any more.

        Unless its time ran out: then its calls may go on while the next owner begins, and what they finish comes again.
        """
        book = self._book
        book.tell(f"{member} gave up {named(partitions)}")
        epochs = [book.epochs[member][partition] for partition in partitions if partition in book.epochs[member]]
        for epoch in epochs:
            in_time = book.now() < epoch.drained_by - SLACK_S
            if not epoch.excused:
                calls = book.calls_in(epoch)
                if calls and in_time:
                    name = f"{calls[0].function}#{calls[0].number}"
                    book.fail("D", f"{member} gave up {named([epoch.partition])} in time, but {name} still runs")
                book.counts.over_budget += not in_time
                if in_time:
                    self._check_nothing_lost(epoch)
                epoch.excused = bool(calls)
        book.close(epochs)

    def _check_nothing_lost(self, epoch: Epoch) -> None:
        position = epoch.position
        committed = max(self._committed.get(epoch.partition, 0), epoch.start)
        if committed < position and not self._commits.failed.get(epoch.member):
            text = f"{epoch.member} gave up {at(epoch.partition, position)} in time, {committed} is committed"
            self._book.fail("D", text)
        done = [offset for _, offset in (*epoch.finished, *epoch.acked) if offset >= position]
        held: set[tuple[str, int]] = set()
        for offset in range(position, max(done, default=-1) + 1):
            if offset not in epoch.settled and not self._is_held(epoch, offset, held):
                text = f"{max(done)} is finished, but {offset} was not waited for"
                self._book.fail("D", f"{epoch.member} gave up partition {named([epoch.partition])}: {text}")

    @staticmethod
    def _is_held(epoch: Epoch, offset: int, held: set[tuple[str, int]]) -> bool:
        """Whether a record waits for a retry or a dead letter, or behind one of its key that does."""
        seen = epoch.log.seen[offset]
        if seen.passes:
            return True
        for function in seen.takers:
            behind = (function, seen.before[function]) in held
            if behind or ((function, offset) in epoch.failed and (function, offset) not in epoch.finished):
                held.add((function, offset))
        waits = any((function, offset) in held for function in seen.takers)
        return waits or (epoch.refusals > 0 and epoch.awaits_letter(offset))

    def lost(self, member: Any) -> None:
        """A member is thrown out or dead: what it finished since its last commit comes again, and no more."""
        scenario = self._book.scenario
        window_s = 2 * scenario.options.commit_interval_s + SLACK_S
        for epoch in self._book.epochs[member].values():
            epoch.excused = True
            before = [position for when, position in epoch.history if when < self._book.now() - window_s]
            committed = max(self._committed.get(epoch.partition, 0), epoch.start)
            calm = self._commits.calm_since(member, self._book.now() - 2 * window_s)
            if before and before[-1] > committed and calm:
                text = f"{before[-1]} of partition {named([epoch.partition])} was not committed for {window_s:g} s"
                self._book.fail("D", f"{member} is lost, and {text}")

    def ended(self) -> None:
        """All is over: every record has found its end, and how often."""
        for partition, log in self._book.logs.items():
            for seen in log.seen:
                if not self._book.done(partition, seen.offset):
                    self._book.fail("L", f"{at(partition, seen.offset)} was neither handled nor dead-lettered")
        self._book.counts.duplicates = sum(count - 1 for count in self._book.handled.values())

    def not_drained(self, why: str) -> None:
        """The deadline has passed."""
        self._book.fail("DRAINS", why)
