"""All decisions of one consumer: what to read, call, repeat, send and commit. It composes the machines of this folder.

One consumer, one engine, one thread: no locks. Every call is synchronous; `now` is in seconds since the Unix epoch
and never goes backwards. Whoever calls carries out what is returned, and reports back.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamproc.core.batcher import Batch
from streamproc.core.counts import Counts
from streamproc.core.function import Function
from streamproc.core.gate import Gate
from streamproc.core.lanes import Work
from streamproc.core.ledger import Entry, Ledger
from streamproc.core.letters import Letter, Letters
from streamproc.core.plan import FunctionPlan, Limits, Routed
from streamproc.core.retry import GiveUp, decide
from streamproc.model import (
    Failure,
    PartitionStopped,
    Poison,
    RecordBatch,
    Reject,
    RetryLater,
    Snapshot,
    TopicPartition,
)

Outcome = RetryLater | Reject | Failure | None
"""How a call ended for one record; None is done."""


STOPPED_AGAIN_S = 30.0
"""A partition that the client could not read is asked for again after so long: what stopped it may have ended."""
QUIET_S = 5.0
"""One that was asked for again and says nothing for so long is no longer stopped."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now. `wake_at` is when to ask again at the latest."""

    letters: Sequence[Letter]
    commits: Mapping[TopicPartition, int]
    wake_at: float


class Engine:
    """See the module's docstring.

    `draw` returns a number from [0, 1), for the jitter of retries; `wall` the time of day, which alone says how old a
    record is: its timestamp was taken from a clock that may be set.
    """

    def __init__(
        self, plans: Sequence[FunctionPlan], limits: Limits, draw: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.functions = [Function(plan) for plan in plans]
        self.ledgers: dict[TopicPartition, Ledger] = {}
        self._counts = Counts()
        self.epoch = 0
        self._limits = limits
        self._draw = draw
        self._wall = wall
        self._letters = Letters()
        self._gates: dict[TopicPartition, Gate] = {}
        self._bytes = Gate(limits.total_bytes)
        self._stopped: dict[TopicPartition, PartitionStopped] = {}
        self._again_at: dict[TopicPartition, float] = {}
        self._asked_at: dict[TopicPartition, float] = {}
        self._rereads = 0
        self._draining: set[TopicPartition] = set()
        self._commit_at = 0.0

    def assign(self, starts: Mapping[TopicPartition, int]) -> None:
        """Opens a ledger per partition, at the offset it is read from, in a new epoch."""
        self.epoch += 1
        for partition, start in starts.items():
            self.revoke([partition])
            self.ledgers[partition] = Ledger(partition, epoch=self.epoch, start=start)
            self._gates[partition] = Gate(self._limits.partition_records)

    def drain(self, partitions: Collection[TopicPartition]) -> None:
        """Stops intake, and drops what has not begun unless a later record of its partition is finished or in a call.

        So little is left to wait for, and nothing that is finished lies beyond what can be committed then.
        """
        for partition in partitions:
            ledger = self.ledgers.get(partition)
            if ledger is None or partition in self._draining:
                continue
            self._draining.add(partition)
            beyond = max(self._finished(ledger), *(f.queue.horizon(partition) for f in self.functions))
            self._letters.drop(partition, beyond)
            for function in self.functions:
                function.drop(partition, beyond)

    def draining(self, partitions: Collection[TopicPartition], until: float) -> bool:
        """Whether something of these partitions can still end before `until`."""
        return any(
            self._letters.busy(partition) or any(f.busy(partition, until) for f in self.functions)
            for partition in partitions
            if partition in self.ledgers
        )

    def _finished(self, ledger: Ledger) -> int:
        """One more than the highest offset of which a call has ended, or a dead letter is being sent."""
        return max(ledger.horizon(), self._letters.horizon(ledger.partition))

    def finished(self, partitions: Iterable[TopicPartition]) -> dict[Ledger, int]:
        """One more than the highest offset of which a call has ended, for each of these partitions."""
        ledgers = (self.ledgers[partition] for partition in partitions if partition in self.ledgers)
        return {ledger: self._finished(ledger) for ledger in ledgers}

    def cease(self, partitions: Iterable[TopicPartition]) -> None:
        """Ends a drain: nothing of these partitions begins any more, so that what is finished can be committed."""
        for partition in partitions:
            self._letters.drop(partition, 0)
            for function in self.functions:
                function.drop(partition, 0)

    def revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Fences partitions: nothing that still comes in for them changes anything."""
        self.cease(partitions)
        for partition in partitions:
            ledger = self.ledgers.pop(partition, None)
            if ledger is not None:
                ledger.close()
            self._gates.pop(partition, None)
            self._reads_on(partition)
            self._draining.discard(partition)

    def stop(self, stopped: PartitionStopped, now: float) -> bool:
        """Leaves a partition out that the client cannot read, for a while. True if that is news."""
        partition = stopped.partition
        if partition not in self.ledgers:
            return False
        is_news = self._stopped.get(partition) != stopped
        self._stopped[partition] = stopped
        self._again_at[partition] = now + STOPPED_AGAIN_S
        self._asked_at.pop(partition, None)
        return is_news

    def _reads_on(self, partition: TopicPartition) -> None:
        self._stopped.pop(partition, None)
        self._again_at.pop(partition, None)
        self._asked_at.pop(partition, None)

    def to_ask_again(self, now: float) -> dict[TopicPartition, int]:
        """Stopped partitions whose time has come, each with the offset to read from. They are wanted from now on."""
        for partition in [partition for partition, at in self._asked_at.items() if at + QUIET_S <= now]:
            self._reads_on(partition)
        due = [partition for partition, at in self._again_at.items() if at <= now]
        for partition in due:
            del self._again_at[partition]
            self._asked_at[partition] = now
        return {partition: self.ledgers[partition].admitted for partition in due}

    def wanted(self) -> list[TopicPartition]:
        """The partitions to read on. Those whose records pile up are left out until half of them are settled."""
        if not self._bytes.observe(sum(ledger.nbytes for ledger in self.ledgers.values())):
            return []
        return [
            partition
            for partition, ledger in self.ledgers.items()
            if partition not in self._again_at and not self._why_held_back(ledger)
        ]

    def room(self) -> int:
        """Bytes that may be read before all that is held reaches its bound, at least 1."""
        return max(1, self._limits.total_bytes - sum(ledger.nbytes for ledger in self.ledgers.values()))

    def _why_blocked(self, ledger: Ledger) -> tuple[str, str]:
        stopped = self._stopped.get(ledger.partition)
        if stopped is not None:
            return stopped.reason, stopped.detail
        why = self._why_held_back(ledger) or ("bytes" if self._bytes.closed else "")
        return why, self._letters.blocked(ledger.partition)

    def _why_held_back(self, ledger: Ledger) -> str:
        partition = ledger.partition
        if partition in self._draining:
            return "draining"
        if self._letters.blocked(partition):
            return "dead_letters_refused"
        if ledger.admitted - ledger.position() >= self._limits.span:
            return "span"
        return "" if self._gates[partition].observe(ledger.unsettled) else "records"

    def takes(self, batch: RecordBatch) -> bool:
        """Whether a batch may be admitted. A partition that is given up takes nothing: its records come again."""
        ledger = self.ledgers.get(batch.partition)
        return ledger is not None and ledger.partition not in self._draining and batch.start == ledger.admitted

    def reread(self, partition: TopicPartition) -> int | None:
        """Counts a batch that did not start where its partition stands; returns the offset to read from instead.

        None where the partition is not read on: its next assignment says where it begins.
        """
        ledger = self.ledgers.get(partition)
        if ledger is None or partition in self._draining:
            return None
        self._rereads += 1
        return ledger.admitted

    def admit(self, one: Routed, now: float) -> None:
        """Enters a batch that the engine `takes`."""
        ledger = self.ledgers[one.decoded.batch.partition]
        entry = ledger.admit(one.decoded, now=now)
        if self._stopped:
            self._reads_on(ledger.partition)
        for index, count in one.shared.items():
            entry.expect(index, count)
        for number, indexes in one.calls:
            self.functions[number].admit(entry, indexes, now)
        for index in one.poison:
            self._bury_poison(entry, index, now)
        if one.ignored:
            self._counts.skipped(ledger.partition.topic, one.ignored.values())
            ledger.settle(entry, one.ignored)

    def _bury_poison(self, entry: Entry, index: int, now: float) -> None:
        poison = entry.events[index]
        assert isinstance(poison, Poison)
        failure = Failure("Poison", poison.detail)
        letter = Letter(entry, index, event_type=poison.event_type, condition=poison.reason, failure=failure)
        letter.since = now
        self._letters.add(letter)

    def report(self, function: Function, work: Work, outcome: Outcome, now: float) -> None:
        """How the call of one record ended."""
        if outcome is None:
            function.lanes.finish(work)
            return
        delay = self._judge(function, work, outcome, now)
        if delay is None:
            function.lanes.release(work)
        else:
            function.lanes.hold(work)
            function.park(work, now + delay)

    def report_batch(
        self, function: Function, batch: Batch, outcomes: Mapping[int, Outcome] | None, now: float
    ) -> None:
        """How the call of a batch ended, by index in the batch; what is not named is done, None is all done.

        Later records of a failed record's key are repeated after it, so that the key's last call is its last record.
        """
        if not outcomes:
            self._batch_done(function, batch)
            return
        again: list[Work] = []
        delays: dict[Work, float] = {}
        failed: set[tuple[TopicPartition, object]] = set()
        for index, work in enumerate(function.batcher.works(batch)):
            outcome = outcomes.get(index)
            if not work.entry.ledger.open:
                continue
            if (work.lane.partition, work.key) in failed:
                again.append(work)
            elif outcome is None:
                work.entry.ledger.settle_one(work.entry, work.index)
                work.lane.done += 1
            elif (delay := self._judge(function, work, outcome, now)) is not None:
                failed.add((work.lane.partition, work.key))
                again.append(work)
                delays[work] = delay
        for head in function.batcher.finish(batch, again):
            function.park(head, now + delays[head])

    def _batch_done(self, function: Function, batch: Batch) -> None:
        for work in batch.retried:
            work.entry.ledger.settle_one(work.entry, work.index)
            work.lane.done += 1
        for entry, indexes in batch.parts:
            entry.ledger.settle(entry, indexes)
            function.batcher.lane(entry.batch.partition).done += len(indexes)
        function.batcher.finish(batch)

    def _judge(
        self, function: Function, work: Work, outcome: RetryLater | Reject | Failure, now: float
    ) -> float | None:
        """Seconds until the next call, None when there is none: then a dead letter is on its way."""
        if not work.entry.ledger.open:
            return None
        topic = work.entry.batch.partition.topic
        work.since = work.since or now
        if isinstance(outcome, Reject):
            self._bury(function, work, outcome.reason, Failure("Reject", outcome.detail))
            return None
        verdict = decide(function.plan.retry, work.attempt, age_s=self._age_s(function, work, now), draw=self._draw)
        if isinstance(verdict, GiveUp):
            failure = outcome if isinstance(outcome, Failure) else Failure("RetryLater", outcome.detail)
            self._bury(function, work, verdict.condition, failure)
            return None
        self._counts.records[topic, function.plan.event_type, "retried"] += 1
        work.attempt += 1
        return outcome.after_s if isinstance(outcome, RetryLater) else verdict.delay_s

    def _age_s(self, function: Function, work: Work, now: float) -> float:
        """Seconds since the record was stamped, or since it was read where it has no timestamp."""
        if function.plan.retry.age_max_s < 0:
            return 0.0
        stamp = work.entry.batch.records[work.index].timestamp
        here = now - work.entry.since  # a timestamp of the future makes no record young for ever
        return here if stamp is None or stamp < 0 else max(here, self._wall() - stamp / 1000)

    def _bury(self, function: Function, work: Work, condition: str, failure: Failure) -> None:
        letter = Letter(
            work.entry, work.index, event_type=function.plan.event_type, condition=condition, failure=failure
        )
        letter.function = function.plan.name
        letter.attempts = work.attempt
        letter.since = work.since
        self._letters.add(letter)

    def due(self, now: float, letters_max: int) -> Due:
        """Wakes retries whose time has come; returns the commits that are due and up to so many dead letters.

        With `letters_max` 0, while others are being sent, letters do not count for `wake_at`.
        """
        for function in self.functions:
            function.wake(now)
        commits: dict[TopicPartition, int] = {}
        if now >= self._commit_at:
            commits = self.commits()
            self._commit_at = now + self._limits.commit_interval_s
        letters = self._letters.take(now, letters_max) if letters_max else []
        waits = [function.wake_at() for function in self.functions]
        if letters_max and not letters:
            waits.append(self._letters.wake_at())
        later = [wait for wait in waits if wait is not None and wait > now]  # what is due already waits for a worker
        return Due(letters, commits, min(self._commit_at, *later) if later else self._commit_at)

    def commits(self) -> dict[TopicPartition, int]:
        """The offsets that may be committed and are not."""
        positions = {partition: ledger.position() for partition, ledger in self.ledgers.items()}
        return {p: position for p, position in positions.items() if position > self.ledgers[p].committed}

    def sent(self, letters: Sequence[Letter]) -> None:
        """The broker has acknowledged these dead letters: their records settle."""
        self._letters.sent(letters)
        for letter in letters:
            letter.entry.ledger.settle_one(letter.entry, letter.index)
            self._counts.dead_lettered(letter)

    def refused(self, letters: Sequence[Letter], error: str, now: float) -> None:
        """The broker has refused these dead letters: they are kept, and sent again later."""
        self._letters.refused([letter for letter in letters if letter.entry.ledger.open], error, now)

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has acknowledged these commits."""
        for partition, offset in offsets.items():
            if partition in self.ledgers:
                self.ledgers[partition].committed = max(self.ledgers[partition].committed, offset)

    def snapshot(self) -> Snapshot:
        """Frozen numbers for gauges, probes and people."""
        records = Counter(self._counts.records)
        for function in self.functions:
            for partition, lane in function.queue.lanes.items():
                records[partition.topic, function.plan.event_type, "ok"] += lane.done
        return Snapshot(
            partitions=[ledger.snapshot(*self._why_blocked(ledger)) for ledger in self.ledgers.values()],
            functions=[function.snapshot() for function in self.functions],
            records=dict(records),
            dead_letters=dict(self._counts.conditions),
            rereads=self._rereads,
            in_flight_records=sum(ledger.unsettled for ledger in self.ledgers.values()),
            in_flight_bytes=sum(ledger.nbytes for ledger in self.ledgers.values()),
        )
