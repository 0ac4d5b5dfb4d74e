"""Deliberately broken builds of the engine and the pipeline. The judges must catch each: that is their proof.

A mutant is a context manager that breaks one thing and repairs it. The names of the invariants beside it are those
that may catch it; which one does first is up to the seed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from streamproc.core.batcher import Batch, Batcher
from streamproc.core.engine import Engine
from streamproc.core.lanes import Lanes, Work
from streamproc.core.ledger import Entry, Ledger
from streamproc.model import RecordBatch, TopicPartition
from tests.simulation.instead import instead


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken build, and the invariants that may catch it."""

    name: str
    caught_by: frozenset[str]
    install: Callable[[], AbstractContextManager[None]]


MUTANTS: list[Mutant] = []


def step_by_step() -> AbstractContextManager[None]:
    """`Lanes.finish` of the steps it saves, so that a build with one of them broken is broken."""

    def finish(self: Lanes, work: Work) -> None:
        work.entry.ledger.settle_one(work.entry, work.index)
        work.lane.done += 1
        self.release(work)

    return instead(Lanes, "finish", finish)


def mutant(*caught_by: str) -> Callable[[Callable[[], Iterator[None]]], Callable[[], AbstractContextManager[None]]]:
    """Enters a broken build in the list."""

    def register(build: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
        install = contextmanager(build)
        MUTANTS.append(Mutant(build.__name__, frozenset(caught_by), install))
        return install

    return register


# SAFE-COMMIT


@mutant("SAFE-COMMIT", "DEAD-BEFORE-DONE")
def commits_one_too_far() -> Iterator[None]:
    """The offset after the lowest unsettled one is committed."""
    sound = Engine.commits

    def commits(self: Engine) -> dict[TopicPartition, int]:
        return {p: min(at + 1, self.ledgers[p].admitted) for p, at in sound(self).items()}

    with instead(Engine, "commits", commits):
        yield


@mutant("SAFE-COMMIT", "DEAD-BEFORE-DONE")
def commits_before_settling() -> Iterator[None]:
    """What was read is committed."""

    def commits(self: Engine) -> dict[TopicPartition, int]:
        return {p: one.admitted for p, one in self.ledgers.items() if one.admitted > one.committed}

    with instead(Engine, "commits", commits):
        yield


@mutant("SAFE-COMMIT")
def passes_an_entry_that_is_half_done() -> Iterator[None]:
    """The ledger forgets its first entry when something of it is settled."""

    def position(self: Ledger) -> int:
        for entry in self.entries:
            if entry.left == len(entry.pending):
                return entry.batch.records[0].offset
        return self.admitted

    with instead(Ledger, "position", position):
        yield


# ONE-IN-FLIGHT


@mutant("ONE-IN-FLIGHT", "KEY-ORDER")
def releases_the_key_when_the_call_begins() -> Iterator[None]:
    """The next record of a key is ready while the one before it runs."""
    take, release = Lanes.take, Lanes.release

    def broken_take(self: Lanes) -> Work:
        work = take(self)
        release(self, work)
        return work

    with (
        step_by_step(),
        instead(Lanes, "take", broken_take),
        instead(Lanes, "release", _end),
        instead(Lanes, "hold", _end),
    ):
        yield


def _end(self: Lanes, work: Work) -> None:
    """Its key is released already."""


@mutant("ONE-IN-FLIGHT", "KEY-ORDER", "EXACT-SETTLE", "FENCED")
def forgets_the_calls_of_a_revoked_partition() -> Iterator[None]:
    """A key in a call is not held when its partition comes back to the same process."""
    sound = Lanes.drop

    def drop(self: Lanes, partition: TopicPartition, beyond: int, parked: Iterable[Work]) -> None:
        sound(self, partition, beyond, parked)
        if not beyond:
            self.lanes.pop(partition, None)

    with instead(Lanes, "drop", drop):
        yield


@mutant("ONE-IN-FLIGHT", "KEY-ORDER")
def calls_two_batches_of_a_partition() -> Iterator[None]:
    """A partition is free for the next batch while the one before it runs."""
    sound = Batcher.take

    def take(self: Batcher, now: float) -> Batch | None:
        batch = sound(self, now)
        for lane in batch.lanes if batch else ():
            lane.in_call = False
        return batch

    with instead(Batcher, "take", take):
        yield


# KEY-ORDER


@mutant("KEY-ORDER")
def takes_the_newest_of_a_key_first() -> Iterator[None]:
    """A lane is a stack."""
    sound = Lanes.release

    def release(self: Lanes, work: Work) -> None:
        *others, newest = work.chain() if work.behind else (None,)
        if newest and others:
            others[-1].behind, newest.behind, work.behind, work.last = None, others[0], newest, others[-1]
        sound(self, work)

    with step_by_step(), instead(Lanes, "release", release):
        yield


@mutant("KEY-ORDER")
def lets_others_pass_a_parked_record() -> Iterator[None]:
    """A key with a record that waits for its retry goes on with the next."""

    def hold(self: Lanes, work: Work) -> None:
        self.release(work)
        work.lane.held.setdefault(work.key, work)

    with instead(Lanes, "hold", hold):
        yield


@mutant("KEY-ORDER", "EXACT-SETTLE")
def batches_ignore_keys_that_are_set_apart() -> Iterator[None]:
    """A batch takes records of a key whose earlier record waits for its retry."""

    def set_apart(self: Batcher, lane: object, entry: Entry, indexes: Sequence[int]) -> list[int]:
        return list(indexes)

    with instead(Batcher, "_set_apart", set_apart):
        yield


@mutant("KEY-ORDER", "D")
def reads_on_while_it_drains() -> Iterator[None]:
    """What a poll brings during a drain is taken in, behind what the drain has dropped."""
    sound = Engine.takes

    def takes(self: Engine, batch: RecordBatch) -> bool:
        draining, self._draining = self._draining, set()
        try:
            return sound(self, batch)
        finally:
            self._draining = draining

    with instead(Engine, "takes", takes):
        yield
