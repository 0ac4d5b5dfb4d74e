"""Broken builds of settling, fencing, limits and dead letters."""

from collections.abc import Iterator, Mapping, Sequence

from streamproc.core.engine import Engine
from streamproc.core.gate import Gate
from streamproc.core.lanes import Lanes, Work
from streamproc.core.ledger import Entry, Ledger
from streamproc.core.letters import Letter, Letters
from streamproc.errors import BrokerError
from streamproc.model import TopicPartition
from streamproc.stream.settle import Settler
from tests.simulation.instead import instead
from tests.simulation.mutants import mutant, step_by_step

# EXACT-SETTLE


@mutant("EXACT-SETTLE", "CRASH")
def settles_twice() -> Iterator[None]:
    """A call that went well settles its record two times."""
    sound = Lanes.finish

    def finish(self: Lanes, work: Work) -> None:
        work.entry.ledger.settle_one(work.entry, work.index)
        sound(self, work)

    with instead(Lanes, "finish", finish):
        yield


@mutant("EXACT-SETTLE", "SAFE-COMMIT", "DEAD-BEFORE-DONE")
def settles_the_neighbour() -> Iterator[None]:
    """A call settles the record before its own, too, where that is still open."""
    sound = Ledger.settle_one

    def settle_one(self: Ledger, entry: Entry, index: int) -> None:
        sound(self, entry, index)
        if index and entry.pending[index - 1]:
            sound(self, entry, index - 1)
            entry.pending[index - 1] += 1
            entry.left += 1

    with step_by_step(), instead(Ledger, "settle_one", settle_one):
        yield


@mutant("EXACT-SETTLE")
def one_function_settles_for_all() -> Iterator[None]:
    """A record that two functions take settles with the first."""

    def expect(self: Entry, index: int, functions: int) -> None:
        self.pending[index] = 1

    with step_by_step(), instead(Entry, "expect", expect), instead(Ledger, "settle_one", _settle_leniently):
        yield


def _settle_leniently(self: Ledger, entry: Entry, index: int) -> None:
    if self.open and entry.pending[index]:
        self.settle(entry, [index])


# FENCED


@mutant("FENCED")
def never_fences() -> Iterator[None]:
    """A call that outlives its epoch still parks its record, or buries it."""

    def close(self: Ledger) -> None:
        pass

    with instead(Ledger, "close", close):
        yield


@mutant("FENCED", "D")
def old_epochs_bury_their_dead() -> Iterator[None]:
    """Dead letters of a revoked partition are sent all the same."""
    sound = Letters.drop

    def drop(self: Letters, partition: TopicPartition, beyond: int) -> None:
        if beyond:
            sound(self, partition, beyond)

    with instead(Letters, "drop", drop):
        yield


@mutant("FENCED", "SAFE-COMMIT")
def commits_what_was_due_long_ago() -> Iterator[None]:
    """A commit that had to wait for another one commits what was due before, whatever happened meanwhile."""

    async def commit(self: Settler, offsets: Mapping[TopicPartition, int]) -> None:
        async with self._committing:
            try:
                await self._consumer.commit(offsets)
            except BrokerError:
                return
            self._engine.committed(offsets)

    with instead(Settler, "commit", commit):
        yield


# BOUNDED


@mutant("BOUNDED")
def never_closes_a_gate() -> Iterator[None]:
    """Reads on whatever piles up."""

    def observe(self: Gate, level: int) -> bool:
        return True

    with instead(Gate, "observe", observe):
        yield


@mutant("BOUNDED")
def ignores_the_span() -> Iterator[None]:
    """A partition is read on however old its oldest record is."""
    sound = Engine._why_held_back

    def why_held_back(self: Engine, ledger: Ledger) -> str:
        why = sound(self, ledger)
        return "" if why == "span" else why

    with instead(Engine, "_why_held_back", why_held_back):
        yield


# DEAD-BEFORE-DONE


@mutant("DEAD-BEFORE-DONE")
def settles_before_the_dead_letter_is_acknowledged() -> Iterator[None]:
    """A dead letter settles its record when it is handed to the producer."""
    take = Letters.take

    def broken_take(self: Letters, now: float, limit: int) -> list[Letter]:
        letters = take(self, now, limit)
        for letter in letters:
            letter.entry.ledger.settle_one(letter.entry, letter.index)
        return letters

    def sent(self: Engine, letters: Sequence[Letter]) -> None:
        self._letters.sent(letters)

    with instead(Letters, "take", broken_take), instead(Engine, "sent", sent):
        yield


@mutant("DEAD-BEFORE-DONE")
def takes_a_refused_dead_letter_for_sent() -> Iterator[None]:
    """A dead letter settles its record whatever the broker says."""

    def refused(self: Engine, letters: Sequence[Letter], error: str, now: float) -> None:
        self.sent(letters)

    with instead(Engine, "refused", refused):
        yield
