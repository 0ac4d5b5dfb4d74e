"""More broken builds: of settling, fencing, limits, dead letters and drains."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from streamproc.core.engine import Engine
from streamproc.core.function import Function
from streamproc.core.gate import Gate
from streamproc.core.lanes import Work
from streamproc.core.ledger import Entry, Ledger
from streamproc.core.letters import Letter, Letters
from streamproc.core.plan import Routed
from streamproc.errors import BrokerError
from streamproc.model import OutRecord, TopicPartition
from streamproc.stream import settle
from streamproc.stream.deadletter import DeadLetterOptions
from streamproc.stream.execute import Executor
from streamproc.stream.settle import Settler
from tests.simulation.instead import instead
from tests.simulation.mutants import mutant

# EXACT-SETTLE


@mutant("EXACT-SETTLE", "CRASH")
def settles_twice() -> Iterator[None]:
    """A call that went well settles its record two times."""
    sound = Engine.done

    def done(self: Engine, function: Function, work: Work) -> None:
        work.entry.ledger.settle_one(work.entry, work.index)
        sound(self, function, work)

    with instead(Engine, "done", done):
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

    with instead(Ledger, "settle_one", settle_one):
        yield


@mutant("EXACT-SETTLE")
def one_function_settles_for_all() -> Iterator[None]:
    """A record that two functions take settles with the first."""

    def expect(self: Entry, index: int, functions: int) -> None:
        self.pending[index] = 1

    with instead(Entry, "expect", expect), instead(Ledger, "settle_one", _settle_leniently):
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
    sound = Engine._why_blocked

    def why_blocked(self: Engine, ledger: Ledger) -> str:
        why = sound(self, ledger)
        return "" if why == "span" else why

    with instead(Engine, "_why_blocked", why_blocked):
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


# DRAINS


@mutant("DRAINS")
def forgets_parked_retries() -> Iterator[None]:
    """A record that is to be repeated never is."""

    def park(self: Function, work: Work, until: float) -> None:
        pass

    with instead(Function, "park", park):
        yield


@mutant("DRAINS")
def forgets_refused_dead_letters() -> Iterator[None]:
    """A dead letter that was refused is not sent again."""

    def refused(self: Engine, letters: Sequence[Letter], error: str, now: float) -> None:
        pass

    with instead(Engine, "refused", refused):
        yield


# D: what is finished is committed when a partition is given up


@mutant("D", "ONE-IN-FLIGHT")
def skips_the_drain() -> Iterator[None]:
    """Partitions are given up at once."""

    def draining(self: Engine, partitions: Collection[TopicPartition], until: float) -> bool:
        return False

    with instead(Engine, "draining", draining):
        yield


@mutant("D")
def skips_the_last_commit() -> Iterator[None]:
    """Partitions are given up without a commit."""

    async def finish(self: Settler, partitions: Collection[TopicPartition]) -> None:
        pass

    with instead(Settler, "finish", finish):
        yield


@mutant("D")
def sends_and_calls_during_the_last_commit() -> Iterator[None]:
    """What becomes ripe while the last commit is on its way still begins."""
    sound = Engine.revoke

    def cease(self: Engine, partitions: Iterable[TopicPartition]) -> None:
        pass

    def revoke(self: Engine, partitions: Collection[TopicPartition]) -> None:
        with instead(Engine, "cease", _cease):
            sound(self, partitions)

    with instead(Engine, "cease", cease), instead(Engine, "revoke", revoke):
        yield


_cease = Engine.cease


@mutant("D")
def drops_what_stands_before_a_dead_letter() -> Iterator[None]:
    """A drain does not wait for records that stand before a dead letter."""

    def horizon(self: Letters, partition: TopicPartition) -> int:
        return 0

    with instead(Letters, "horizon", horizon):
        yield


@mutant("D", "KEY-ORDER")
def drops_what_stands_before_a_record_half_done() -> Iterator[None]:
    """A drain does not see that one of two functions has finished a record."""

    def touched(self: Entry) -> int:
        return self.pending.rfind(0) + 1

    with instead(Entry, "touched", touched):
        yield


# L


@mutant("L")
def buries_half_of_a_record() -> Iterator[None]:
    """A dead letter does not hold what the record held."""
    sound: Callable[[Letter, DeadLetterOptions], OutRecord] = vars(settle)["dead_letter"]

    def dead_letter(letter: Letter, options: DeadLetterOptions) -> OutRecord:
        record = sound(letter, options)
        return replace(record, value=record.value and record.value[: len(record.value) // 2])

    with instead(settle, "dead_letter", dead_letter):
        yield


@mutant("L", "DRAINS", "SAFE-COMMIT", "EXACT-SETTLE")
def drops_what_it_has_seen_before() -> Iterator[None]:
    """A record delivered again after a rebalance is taken for done."""
    sound = Engine.admit
    seen: dict[tuple[Engine, TopicPartition], int] = {}

    def admit(self: Engine, routed: Sequence[Routed], now: float) -> None:
        sound(self, routed, now)
        for partition, ledger in self.ledgers.items():
            before = seen.get((self, partition), 0)
            for entry in list(ledger.entries):
                old = [i for i, one in enumerate(entry.batch.records) if one.offset < before and entry.pending[i]]
                if ledger.epoch > 1 and old and entry.left:
                    ledger.settle(entry, old)
            seen[self, partition] = max(before, ledger.admitted)

    with instead(Engine, "admit", admit):
        yield


@mutant("EXACT-SETTLE", "L")
def takes_what_it_emits_for_sent() -> Iterator[None]:
    """A record settles although the broker has refused what its call emitted."""
    sound = Executor._emit

    async def emit(self: Executor, records: list[OutRecord]) -> None:
        await sound(self, records)

    with instead(Executor, "_emit", emit):
        yield


@mutant("DRAINS")
def never_ends_a_call() -> Iterator[None]:
    """A call that hangs is not cancelled."""

    def check(self: Executor, now: float) -> None:
        pass

    with instead(Executor, "check", check):
        yield
