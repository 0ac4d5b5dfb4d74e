"""A broker in memory, with the same ports as Kafka: for tests of functions, and for simulations that break it.

Topics, groups with eager rebalances, committed offsets, and a `Faults` object whose methods are asked before each
effect: the default does nothing, a simulation overrides them to delay, refuse or lose acknowledgements.
"""

import asyncio
import math
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.model import Headers, OutRecord, PartitionStopped, Record, RecordBatch, TopicPartition
from streamproc.ports import RebalanceListener

POLL_RECORDS_MAX = 500


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record in the log. `timestamp` is in milliseconds since the Unix epoch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Faults:
    """What may go wrong; nothing does here. Override what a test needs."""

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """Refuses a record before it is written, if it returns an error."""
        return None

    async def after_send(self, record: OutRecord) -> BrokerError | None:
        """Loses the acknowledgement of a written record, if it returns an error."""
        return None

    async def before_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Refuses a commit by raising BrokerError."""

    async def after_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Loses the acknowledgement of a commit by raising BrokerError."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit the broker took, for tests to look at."""

    member: "MemoryConsumer"
    offsets: Mapping[TopicPartition, int]


class MemoryBroker:
    """Topics and groups of one process. `now` is in seconds since the Unix epoch."""

    def __init__(self, now: Callable[[], float], faults: Faults | None = None, *, record_bytes_max: int = 1_048_576):
        self.faults = faults or Faults()
        self.commits: list[Commit] = []
        self._now = now
        self._record_bytes_max = record_bytes_max
        self._logs: dict[TopicPartition, list[StoredRecord]] = {}
        self._groups: dict[str, Group] = {}
        self._appended = asyncio.Event()

    def create_topic(self, topic: str, partitions: int) -> None:
        """Makes a topic, empty; nothing happens if it exists."""
        for number in range(partitions):
            self._logs.setdefault(TopicPartition(topic, number), [])

    def delete_topic(self, topic: str) -> None:
        """Forgets a topic and its records."""
        for partition in self.partitions([topic]):
            del self._logs[partition]

    def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of these topics, in order."""
        wanted = set(topics)
        return sorted(partition for partition in self._logs if partition.topic in wanted)

    def topics(self) -> set[str]:
        """The names of all topics."""
        return {partition.topic for partition in self._logs}

    def append(self, record: OutRecord) -> TopicPartition:
        """Writes a record. Raises BrokerError for a topic that does not exist or a record that is too large."""
        partitions = self.partitions([record.topic])
        if not partitions:
            raise BrokerError("UnknownTopicOrPartitionError")
        if len(record.value or b"") + sum(len(value or b"") for _, value in record.headers) > self._record_bytes_max:
            raise RecordTooLarge("MessageSizeTooLargeError")
        number = record.partition
        if number is None:
            number = zlib.crc32(record.key) % len(partitions) if record.key is not None else 0
        log = self._logs[partitions[number]]
        stamp = int(self._now() * 1000) if record.timestamp is None else record.timestamp
        log.append(StoredRecord(len(log), stamp, record.key, record.value, tuple(record.headers)))
        self._appended.set()
        return partitions[number]

    def records(self, topic: str) -> list[StoredRecord]:
        """All records of a topic, partition by partition."""
        return [record for partition in self.partitions([topic]) for record in self._logs[partition]]

    def log(self, partition: TopicPartition) -> Sequence[StoredRecord]:
        """The records of a partition; empty when it does not exist."""
        return self._logs.get(partition, ())

    def group(self, name: str) -> "Group":
        """A consumer group, made when first named."""
        return self._groups.setdefault(name, Group(self))

    async def appended(self, timeout_s: float) -> None:
        """Waits for the next record of any topic."""
        self._appended.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._appended.wait()


class Group:
    """A consumer group: its members, committed offsets, and who owns what."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.committed: dict[TopicPartition, int] = {}
        self.members: list[MemoryConsumer] = []
        self._broker = broker
        self._rebalancing = asyncio.Lock()

    def owner(self, partition: TopicPartition) -> "MemoryConsumer | None":
        """Who has a partition."""
        return next((member for member in self.members if partition in member.positions), None)

    async def rebalance(self) -> None:
        """Eager, like Kafka's classic protocol: everybody gives up everything, then partitions are dealt out anew."""
        async with self._rebalancing:
            await asyncio.gather(*(member.give_up() for member in self.members))
            members = [member for member in self.members if member.listener is not None]
            topics = {topic for member in members for topic in member.topics}
            if members:
                self._begin(topics, members[0].starting_position)
            for number, member in enumerate(members):
                await member.take_over(self._broker.partitions(topics)[number :: len(members)])

    def _begin(self, topics: Collection[str], starting_position: str) -> None:
        """Commits where partitions without a commit begin: of a topic the group knows, at their beginning."""
        known = {partition.topic for partition in self.committed}
        for partition in self._broker.partitions(topics):
            at_end = starting_position == "latest" and partition.topic not in known
            self.committed.setdefault(partition, len(self._broker.log(partition)) if at_end else 0)


class MemoryConsumer:
    """A member of a group of a MemoryBroker."""

    def __init__(
        self, broker: MemoryBroker, *, group: str, topics: Sequence[str], starting_position: str = "trim_horizon"
    ) -> None:
        self.topics = topics
        self.starting_position = starting_position
        self.listener: RebalanceListener | None = None
        self.positions: dict[TopicPartition, int] = {}
        self._broker = broker
        self._group = broker.group(group)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listener: RebalanceListener) -> None:
        """See the port."""
        missing = [topic for topic in self.topics if not self._broker.partitions([topic])]
        if missing:
            raise BrokerError(f"no such topic on the broker: {', '.join(missing)}; create it first")
        self.listener = listener
        self._group.members.append(self)
        self._in_background(self._group.rebalance())

    def _in_background(self, rebalance: Awaitable[None]) -> None:
        task = asyncio.ensure_future(rebalance)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def give_up(self) -> None:
        """Tells the listener, then forgets the positions: a rebalance begins."""
        if self.listener is not None and self.positions:
            await self.listener.revoked(list(self.positions))
        self.positions = {}

    async def take_over(self, partitions: Collection[TopicPartition]) -> None:
        """Gets partitions: a rebalance ends."""
        self.positions = {partition: self._group.committed[partition] for partition in partitions}
        if self.listener is not None:
            self.listener.assigned(dict(self.positions))

    async def poll(
        self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
    ) -> Sequence[RecordBatch | PartitionStopped]:
        """See the port."""
        positions = self.positions
        polled = self._fetch(partitions, max_bytes)
        if not polled and timeout_s > 0:
            await self._broker.appended(timeout_s)
            polled = self._fetch(partitions, max_bytes) if self.positions is positions else []
        return polled

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        if partition in self.positions:
            self.positions[partition] = offset

    def _fetch(self, partitions: Collection[TopicPartition], max_bytes: int) -> list[RecordBatch | PartitionStopped]:
        polled: list[RecordBatch | PartitionStopped] = []
        for partition in partitions:
            if max_bytes <= 0:
                break
            position = self.positions.get(partition)
            if position is None:
                continue
            log = self._broker.log(partition)
            if position > len(log):
                polled.append(PartitionStopped(partition, "offset_out_of_range", f"offset {position} is gone"))
            elif records := log[position : position + POLL_RECORDS_MAX]:
                batch = _batch(partition, records)
                self.positions[partition] = batch.next_offset
                max_bytes -= batch.nbytes
                polled.append(batch)
        return polled

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port."""
        faults = self._broker.faults
        await faults.before_commit(offsets)
        if any(partition not in self.positions for partition in offsets):
            raise BrokerError("CommitFailedError")
        self._group.committed.update(offsets)
        self._broker.commits.append(Commit(self, dict(offsets)))
        await faults.after_commit(offsets)

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        return {partition: len(self._broker.log(partition)) for partition in self.positions}

    def silent_s(self) -> float:
        """See the port: it always answers."""
        return 0.0

    def trouble(self) -> str:
        """See the port: there is none."""
        return ""

    def held_until(self) -> float:
        """See the port: sessions do not end here."""
        return math.inf

    async def stop(self) -> None:
        """See the port."""
        await self._leave()

    async def vanish(self) -> None:
        """Leaves the group without a word, as a process that is killed."""
        self.listener = None
        await self._leave()

    async def _leave(self) -> None:
        self.positions = {}
        self.listener = None
        if self in self._group.members:
            self._group.members.remove(self)
            if self._group.members:
                self._group.members[0]._in_background(self._group.rebalance())
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()


class MemoryProducer:
    """Writes to a MemoryBroker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def start(self) -> None:
        """See the port."""

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """See the port."""
        return [await self._send(record) for record in records]

    async def _send(self, record: OutRecord) -> BrokerError | None:
        refused = await self._broker.faults.before_send(record)
        if refused is not None:
            return refused
        try:
            self._broker.append(record)
        except BrokerError as error:
            return error
        except (TypeError, ValueError, OverflowError) as error:
            return RecordRefused(f"topic {record.topic}: the record cannot be encoded: {error}")
        return await self._broker.faults.after_send(record)

    async def stop(self) -> None:
        """See the port."""


def _batch(partition: TopicPartition, records: Sequence[Record]) -> RecordBatch:
    nbytes = sum(len(record.value or b"") + 200 for record in records)
    return RecordBatch(partition, records, start=records[0].offset, next_offset=records[-1].offset + 1, nbytes=nbytes)
