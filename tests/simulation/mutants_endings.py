"""Broken builds of drains, of what must come to an end, and of what leaves the system."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from streamproc.core.engine import Due, Engine
from streamproc.core.function import Function
from streamproc.core.lanes import Work
from streamproc.core.ledger import Entry
from streamproc.core.letters import Letter, Letters
from streamproc.core.plan import Routed
from streamproc.model import OutRecord, TopicPartition
from streamproc.stream import settle
from streamproc.stream.deadletter import FORMS, DeadLetterOptions
from streamproc.stream.execute import Executor
from streamproc.stream.settle import Settler
from tests.simulation.instead import instead
from tests.simulation.mutants import mutant

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
def commits_only_now_and_then() -> Iterator[None]:
    """Of ten seconds, nothing is committed in the first five."""
    sound = Engine.due

    def due(self: Engine, now: float, letters_max: int) -> Due:
        found = sound(self, now, letters_max)
        return replace(found, commits={}) if now % 10 < 5 else found

    with instead(Engine, "due", due):
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
    sound, *smaller = FORMS

    def dead_letter(letter: Letter, options: DeadLetterOptions) -> OutRecord:
        record = sound(letter, options)
        return replace(record, value=record.value and record.value[: len(record.value) // 2])

    with instead(settle, "FORMS", (dead_letter, *smaller)):
        yield


@mutant("L", "DRAINS", "SAFE-COMMIT", "EXACT-SETTLE")
def drops_what_it_has_seen_before() -> Iterator[None]:
    """A record delivered again after a rebalance is taken for done."""
    sound = Engine.admit
    seen: dict[tuple[Engine, TopicPartition], int] = {}

    def admit(self: Engine, routed: Routed, now: float) -> None:
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

    async def emit(self: Executor, records: list[OutRecord], size: int) -> None:
        await sound(self, records, size)

    with instead(Executor, "_emit", emit):
        yield


@mutant("DRAINS")
def never_ends_a_call() -> Iterator[None]:
    """A call that hangs is not cancelled."""

    def check(self: Executor) -> None:
        pass

    with instead(Executor, "check", check):
        yield
