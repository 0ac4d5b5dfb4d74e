"""Judges calls: KEY-ORDER, ONE-IN-FLIGHT, FENCED, and how many run at a time (BOUNDED)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from streamproc.model import TopicPartition
from tests.simulation.book import Book, at, named
from tests.simulation.facts import Call, Epoch, Seen

Item = tuple[TopicPartition, int, int]
"""Partition, offset and attempt of a record in a call."""


class Calls:
    """Told of each call's beginning and end."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._at_a_time: Counter[tuple[Any, str]] = Counter()
        self._emitting: dict[int, Call] = {}

    def began(self, member: Any, function: str, items: Sequence[Item]) -> Call:
        """A function is being called."""
        book = self._book
        book.counts.calls += 1
        found: list[tuple[Epoch, Seen, int]] = []
        for partition, offset, attempt in items:
            epoch = book.epochs[member].get(partition)
            if epoch is None:
                book.fail("FENCED", f"{member}: {function} is called with {at(partition, offset)}, which was revoked")
                epoch = Epoch(member, partition, book.logs[partition], offset)
            found.append((epoch, book.logs[partition].seen[offset], attempt))
        call = Call(member, function, found, book.now(), book.counts.calls)
        book.tell(f"{member} {function}#{call.number} begins {' '.join(at(p, offset) for p, offset, _ in items)}")
        self._check_alone(call)
        self._check_order(call)
        self._at_a_time[member, function] += 1
        if self._at_a_time[member, function] > book.scenario.concurrency:
            book.fail("BOUNDED", f"{self._at_a_time[member, function]} calls of {function} at a time in {member}")
        return call

    def _check_order(self, call: Call) -> None:
        inside: set[tuple[Epoch, int]] = set()
        for epoch, seen, _ in call.items:
            name = f"{call.member}: {call.function} is called with {at(epoch.partition, seen.offset)}"
            if (call.function, seen.offset) in epoch.finished:
                self._book.fail("EXACT-SETTLE", f"{name}, which it has finished")
            before = seen.before[call.function]
            unfinished = (call.function, before) not in epoch.finished and (epoch, before) not in inside
            if before >= epoch.start and unfinished:
                self._book.fail("KEY-ORDER", f"{name} before {before} of the same key is finished")
            inside.add((epoch, seen.offset))

    def _check_alone(self, call: Call) -> None:
        mine = call.excused()
        for domain in call.domains:
            for other in self._book.running[domain]:
                if other.member is call.member or not (mine or other.excused()):
                    self._book.fail(
                        "ONE-IN-FLIGHT",
                        f"{call.function} runs twice for key {domain[2]!r} of partition {named([domain[1]])}: "
                        f"in {other.member} since {other.began:.3f} s and in {call.member}",
                    )
                self._book.counts.overlaps += 1
            self._book.running[domain].append(call)

    def ended(self, call: Call, verdicts: Sequence[str], *, emits: bool = False) -> None:
        """A call ended: for each record ok, rejected or failed. With `emits` the broker decides."""
        self._book.tell(f"{call.member} {call.function}#{call.number} ends {' '.join(verdicts)}")
        call.verdicts = list(verdicts)
        if emits:
            self._emitting[call.number] = call
        else:
            self._conclude(call)

    def emitted(self, number: int, *, ok: bool) -> None:
        """What a call emitted was acknowledged, or not."""
        call = self._emitting.pop(number, None)
        if call is not None:
            if not ok:
                call.verdicts = ["failed"] * len(call.items)
            self._conclude(call)

    def abandon(self, member: Any) -> None:
        """A member's process is gone, or has come to its end: its calls are, too."""
        calls = {call.number: call for calls in self._book.running.values() for call in calls}
        for call in calls.values():
            if call.member is member:
                self._book.tell(f"{member} {call.function}#{call.number} is cut off")
                self._emitting.pop(call.number, None)
                self._release(call)

    def _release(self, call: Call) -> None:
        self._at_a_time[call.member, call.function] -= 1
        for domain in call.domains:
            self._book.running[domain].remove(call)

    def _conclude(self, call: Call) -> None:
        self._release(call)
        book = self._book
        repeated: set[tuple[Epoch, object]] = set()
        for (epoch, seen, attempt), verdict in zip(call.items, call.verdicts, strict=True):
            here = (call.function, seen.offset)
            domain = (epoch, seen.domain(call.function))
            if verdict == "ok":
                book.handled[epoch.partition, seen.offset, call.function] += 1
            book.counts.failures += verdict == "failed"
            if epoch.closed:
                continue
            if domain in repeated:
                epoch.failed.add(here)
            elif verdict == "failed" and attempt <= book.scenario.retries:
                repeated.add(domain)
                epoch.failed.add(here)
            else:
                epoch.finished[here] = "ok" if verdict == "ok" else "dead"
                if verdict == "ok":
                    epoch.settle_part(seen.offset)
