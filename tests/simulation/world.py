"""The world around the system: a broker that misbehaves, and members of a group that come, go and die."""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from streamproc import virtualtime
from streamproc.adapters.kafka_records import Unread
from streamproc.adapters.memory import Faults, MemoryBroker, MemoryConsumer, MemoryProducer
from streamproc.errors import BrokerError, RecordTooLarge
from streamproc.model import OutRecord, PartitionStopped, Record, RecordBatch, Records, TopicPartition
from streamproc.ports import RebalanceListener
from streamproc.stream.deadletter import OURS
from tests.simulation.book import At, Book
from tests.simulation.broker_side import Commits, Letters
from tests.simulation.calls import Calls
from tests.simulation.endings import Endings
from tests.simulation.scenario import OUT, RECORD_BYTES_MAX, TOPIC, Scenario, Sent

if TYPE_CHECKING:
    from tests.simulation.member import Member

DEAD_LETTERS = f"{TOPIC}.dlq"
GROUP = "simulation"
_sent = msgspec.json.Decoder(Sent)

LOOK_S = 0.000_1


class World:
    """What a run consists of. `now` is in seconds; `rng` draws what happens while it runs."""

    def __init__(self, scenario: Scenario, now: Callable[[], float], *, verbose: bool) -> None:
        self.scenario = scenario
        self.now = now
        self.rng = random.Random(scenario.seed + 1)
        self.faulty = True
        self.book = Book(scenario, now, verbose=verbose)
        self.calls = Calls(self.book)
        self.letters = Letters(self.book)
        self.commits = Commits(self.book)
        self.broker = MemoryBroker(now, Chaos(self), record_bytes_max=RECORD_BYTES_MAX)
        self.broker.create_topic(TOPIC, scenario.partitions)
        self.broker.create_topic(DEAD_LETTERS, 1)
        self.broker.create_topic(OUT, 1)
        self.group = self.broker.group(GROUP)
        self.endings = Endings(self.book, self.commits, self.group.committed)
        self.members: list[Member] = []
        self._tick = 0.0

    def tick(self) -> float:
        """What times calls: each look takes some time, so that workers give way, and a seed replays."""
        self._tick = max(self._tick + LOOK_S, virtualtime.tick())
        return self._tick

    def chance(self, rate: float) -> bool:
        """Draws whether something goes wrong now."""
        return self.faulty and rate > 0 and self.rng.random() < rate


class Chaos(Faults):
    """Draws what goes wrong at the broker."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rates = world.scenario.rates

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        world = self._world
        if world.chance(self._rates.slow_send):
            await asyncio.sleep(world.rng.uniform(0, 0.3))
        down_from, down_to = self._rates.dead_letters_down
        if record.topic == DEAD_LETTERS and world.faulty and down_from <= world.now() < down_to:
            return BrokerError("NotEnoughReplicasError")
        return BrokerError("NotLeaderError") if world.chance(self._rates.refused_send) else None

    async def after_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        if record.topic == DEAD_LETTERS:
            partition, offset, function = source_of(record)
            self._world.letters.written(partition, offset, function, record.value)
        return BrokerError("RequestTimedOutError") if self._world.chance(self._rates.lost_send) else None

    async def before_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the base."""
        await self._trouble_with_commit(self._rates.refused_commit)

    async def after_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the base."""
        commit = self._world.broker.commits[-1]
        assert isinstance(commit.member, SimConsumer)
        self._world.commits.taken(commit.member.member, commit.offsets)
        await self._trouble_with_commit(self._rates.lost_commit)

    async def _trouble_with_commit(self, rate: float) -> None:
        world = self._world
        if world.chance(self._rates.slow_commit):
            await asyncio.sleep(world.rng.choice((0.05, 0.3, 1.0)))
        if world.chance(rate):
            raise BrokerError("RequestTimedOutError")


def source_of(record: OutRecord) -> At:
    """Which record a dead letter is of, and which function failed."""
    headers = {name: (value or b"").decode() for name, value in record.headers if name.startswith(OURS)}
    partition = TopicPartition(headers[OURS + "topic"], int(headers[OURS + "partition"]))
    return partition, int(headers[OURS + "offset"]), headers.get(OURS + "handler", "")


class SimConsumer(MemoryConsumer):
    """A consumer whose fetches are small and have holes, that can be thrown out, and that the judges watch."""

    def __init__(self, world: World, member: "Member") -> None:
        super().__init__(world.broker, group=GROUP, topics=[TOPIC])
        self.member = member
        self.polled_bytes_max = 0
        self._world = world
        self._to_tell: RebalanceListener | None = None

    async def start(self, listener: RebalanceListener) -> None:
        """See the port."""
        self._to_tell = listener
        await super().start(RebalanceListener(revoked=self.revoked, assigned=self._assigned))

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Tells the pipeline, and the judges when it is done with it."""
        assert self._to_tell is not None
        endings = self._world.endings
        endings.giving_up(self.member, partitions, self._world.scenario.options.drain_s)
        await self._to_tell.revoked(partitions)
        endings.gave_up(self.member, partitions)

    def _assigned(self, starts: Mapping[TopicPartition, int]) -> None:
        assert self._to_tell is not None
        self._to_tell.assigned(starts)
        self._world.book.assigned(self.member, starts)

    async def poll(
        self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
    ) -> Sequence[RecordBatch | PartitionStopped]:
        """See the port."""
        self._world.book.counts.held_back += len(partitions) < len(self.positions)
        polled = [self._cut(batch) for batch in await super().poll(partitions, timeout_s, max_bytes=max_bytes)]
        self.polled_bytes_max = max(self.polled_bytes_max, sum(batch.nbytes for batch in polled))
        return polled

    def _cut(self, batch: RecordBatch | PartitionStopped) -> RecordBatch:
        assert isinstance(batch, RecordBatch)
        taken = batch.records[: self._world.rng.randint(1, self._world.scenario.fetch_max)]
        next_offset = taken[-1].offset + 1
        self.positions[batch.partition] = next_offset
        seen = self._world.book.logs[batch.partition].seen
        kept = [record for record in taken if not seen[record.offset].made.hole]
        nbytes = sum(len(record.value or b"") + 200 for record in kept)
        return RecordBatch(
            batch.partition, self._as_read(kept), start=batch.start, next_offset=next_offset, nbytes=nbytes
        )

    def _as_read(self, records: Sequence[Record]) -> Sequence[Record]:
        """As the batch reader gives them, by column; for every other seed as its fallback does, record by record."""
        if self._world.scenario.seed % 2:
            return records
        columns = Records(records)
        return Unread(columns.values, columns.offsets, None, read=lambda: records)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port."""
        commits, began = self._world.commits, self._world.now()
        if self.member.dead:
            raise BrokerError("the process is dead")
        commits.asked(self.member, offsets)
        ok = False
        self._world.book.counts.commits_stale += any(partition not in self.positions for partition in offsets)
        try:
            await super().commit(offsets)
            ok = True
        finally:
            commits.ended(self.member, ok=ok, took_s=self._world.now() - began)

    async def stop(self) -> None:
        """See the port; a dead process leaves no group."""
        if not self.member.dead:
            await super().stop()

    def throw_out(self) -> None:
        """The group goes on without this member, which does not know it."""
        self.positions = {}
        group = self._world.group
        if self in group.members:
            group.members.remove(self)
            if group.members:
                group.members[0]._in_background(group.rebalance())

    def come_back(self) -> None:
        """Joins the group again after it was thrown out."""
        if self.listener is not None:
            self._world.group.members.append(self)
            self._in_background(self._world.group.rebalance())


class SimProducer(MemoryProducer):
    """One member's producer, watched by the judges."""

    def __init__(self, world: World, member: "Member") -> None:
        super().__init__(world.broker)
        self._world = world
        self._member = member
        self._held: list[tuple[At, Any, str]] = []

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """See the port."""
        if records[0].topic == OUT:
            results = await super().send(records)
            number = _sent.decode(records[0].value or b"").call
            self._world.calls.emitted(number, ok=not any(results))
            return results
        letters = [source_of(record) for record in records]
        cut = [record for record in records if any(name == OURS + "value.truncated" for name, _ in record.headers)]
        self._world.book.counts.letters_cut += len(cut)
        epochs = self._world.letters.sending(self._member, letters)
        results = await super().send(records)
        how = ["acked" if error is None else _name(error) for error in results]
        self._tell(list(zip(letters, epochs, how, strict=True)))
        return results

    def _tell(self, endings: list[tuple[At, Any, str]]) -> None:
        """What did not fit is sent again, smaller; the first answers count only when the last are there, too."""
        cut_again = any(how == "too_large" and epoch is not None and not epoch.closed for _, epoch, how in endings)
        if cut_again:
            self._held += [ending for ending in endings if ending[2] != "too_large"]
            return
        ended, self._held = [*self._held, *endings], []
        self._world.letters.ended(ended)


def _name(error: BrokerError) -> str:
    return "too_large" if isinstance(error, RecordTooLarge) else "refused"
