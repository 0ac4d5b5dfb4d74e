"""A Kafka cluster in memory: nodes that answer requests, topics, groups, and what happens to them."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zlib import crc32

from tests.simulation.wire import handlers
from tests.simulation.wire.call import Call, Entry
from tests.simulation.wire.faults import Faults
from tests.simulation.wire.groups import Group
from tests.simulation.wire.log import Batch, Header, PartitionLog, Stored, TopicConfig, batch_of
from tests.simulation.wire.loop import WireLoop
from tests.simulation.wire.net import LATENCY_S, NOBODY, Connection, Network
from tests.simulation.wire.protocol import decode
from tests.simulation.wire.transactions import Transactions

PORT = 9092
At = tuple[str, int]


class Watcher:
    """Told what takes effect, in the order of its effects. The oracle's side of the cluster."""

    def appended(self, at: At, batch: Batch, client: str) -> None:
        """A batch was appended; a repeated one is not told again."""

    def committed(self, group: str, client: str, member_id: str, generation: int, offsets: Mapping[At, int]) -> None:
        """Offsets were committed."""

    def changed(self, group: Group, why: str) -> None:
        """A group has changed its state or members."""


class Partition:
    """A partition of a topic. `leader` is a node's number, -1 without one; `told` is what the metadata say."""

    def __init__(self, topic: str, number: int, config: TopicConfig, leader: int) -> None:
        self.topic = topic
        self.number = number
        self.log = PartitionLog(config)
        self.leader = self.told = leader
        self.waiting: dict[int, Callable[[], None]] = {}
        """Fetches that wait for data here, by the number of their call."""

    @property
    def at(self) -> At:
        """Topic and number."""
        return self.topic, self.number

    def wake(self) -> None:
        """Lets the fetches that wait here look again."""
        for look in list(self.waiting.values()):
            look()


@dataclass(slots=True)
class Topic:
    """A topic. One that is deleted and made anew has another `id`."""

    name: str
    id: bytes
    config: TopicConfig
    partitions: list[Partition] = field(default_factory=list)


class Node:
    """A broker of the cluster."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.number = number
        self.host = self.name = f"kafka-{number}"
        self.port = PORT
        self.up = True
        self._cluster = cluster
        cluster.network.listen(self.host, self.port, self)

    def arrived(self, connection: Connection, frame: bytes) -> None:
        """See `net.Node`."""
        cluster = self._cluster
        header, request = decode(frame)
        if not connection.client:
            connection.client = header.client_id
        call = Call(cluster, self, connection, header, request)
        call.trouble = cluster.faults.trouble(call)
        if call.trouble.before_s:
            cluster.later(call.trouble.before_s, partial(self._act, call))
        else:
            self._act(call)

    def _act(self, call: Call) -> None:
        if not self.up:
            return
        if call.trouble.cut == "before":
            call.drop("cut before the effect")
            return
        fields = handlers.HANDLERS[call.api](self._cluster, call)
        if fields is not None:
            call.answer(*fields)


class Cluster:
    """See the module's docstring. Times are in seconds; what it draws comes from `rng`.

    `session_s` are the shortest and longest session timeouts that members may have, `initial_delay_s` how long a group
    waits for more first members.
    """

    def __init__(
        self,
        loop: WireLoop,
        rng: random.Random,
        *,
        nodes: int = 1,
        faults: Faults | None = None,
        watcher: Watcher | None = None,
        latency_s: float = LATENCY_S,
        session_s: tuple[float, float] = (1.0, 1800.0),
        initial_delay_s: float = 0.0,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.network = Network(loop, latency_s)
        self.faults = faults or Faults()
        self.watcher = watcher or Watcher()
        self.session_s = session_s
        self.trace: list[Entry] = []
        self.nodes = {number: Node(self, number) for number in range(1, nodes + 1)}
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.denied: dict[str, tuple[str, ...]] = {}
        """What nobody may do with a topic or group: some of describe, read and write."""
        self.loading: set[str] = set()
        """Keys whose coordinator is not ready yet."""
        self.transactions = Transactions(self, self.later)
        self._initial_delay_s = initial_delay_s
        self._coordinators: dict[str, int] = {}
        self._calls = 0

    # time

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time()

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.loop.now() * 1000)

    def later(self, after_s: float, then: Callable[[], None]) -> Any:
        """Calls a function after some time. Returns a handle with `cancel`."""
        return self.loop.call_later(after_s, then, context=NOBODY)

    def next_call(self) -> int:
        """Returns the number of a new call."""
        self._calls += 1
        return self._calls

    # nodes

    @property
    def bootstrap(self) -> list[str]:
        """host:port of each node."""
        return [f"{node.host}:{node.port}" for node in self.nodes.values()]

    @property
    def alive(self) -> list[int]:
        """Numbers of the nodes that run."""
        return [node.number for node in self.nodes.values() if node.up]

    def stop_node(self, number: int) -> None:
        """Ends a node: its connections are cut, its partitions and groups go to others, if there are any."""
        node = self.nodes[number]
        self.tell(f"node {number} stops")
        node.up = False
        self.network.cut(node=node.name)
        for partition in self.partitions():
            if partition.leader == number:
                self.move_leader(partition.at, self._another(number))
        for key in [key for key in (*self.groups, *self._coordinators) if self.coordinator(key) == number]:
            self.move_coordinator(key, self._another(number))

    def start_node(self, number: int) -> None:
        """Starts a node again."""
        self.tell(f"node {number} starts")
        self.nodes[number].up = True
        for partition in self.partitions():
            if partition.leader < 0:
                self.move_leader(partition.at, number)
        for key, coordinator in list(self._coordinators.items()):
            if coordinator < 0:
                self.move_coordinator(key, number)

    def _another(self, number: int) -> int:
        others = [one for one in self.alive if one != number]
        return self.rng.choice(others) if others else -1

    # topics

    def create_topic(self, name: str, partitions: int = 1, config: TopicConfig | None = None) -> Topic:
        """Makes a topic."""
        topic = Topic(name, self.rng.randbytes(16), config or TopicConfig())
        self.topics[name] = topic
        self.tell(f"topic {name} is made with {partitions} partitions")
        self.grow_topic(name, partitions)
        return topic

    def delete_topic(self, name: str) -> None:
        """Deletes a topic; groups forget their offsets of it."""
        topic = self.topics.pop(name)
        self.tell(f"topic {name} is deleted")
        for group in self.groups.values():
            for at in [at for at in group.offsets if at[0] == name]:
                del group.offsets[at]
        for partition in topic.partitions:
            partition.leader = -1
            partition.wake()

    def grow_topic(self, name: str, partitions: int) -> None:
        """Gives a topic more partitions."""
        topic, alive = self.topics[name], self.alive
        for number in range(len(topic.partitions), partitions):
            topic.partitions.append(Partition(name, number, topic.config, alive[number % len(alive)] if alive else -1))
        self.tell(f"topic {name} has {len(topic.partitions)} partitions")

    def partitions(self) -> Iterable[Partition]:
        """All partitions."""
        return [partition for topic in self.topics.values() for partition in topic.partitions]

    def partition(self, at: At) -> Partition | None:
        """Returns a partition, if it exists."""
        topic = self.topics.get(at[0])
        return topic.partitions[at[1]] if topic is not None and 0 <= at[1] < len(topic.partitions) else None

    def log(self, topic: str, partition: int = 0) -> PartitionLog:
        """Returns the log of a partition."""
        return self.topics[topic].partitions[partition].log

    def records(self, topic: str) -> list[tuple[int, Stored]]:
        """Returns what is in a topic: partition, record."""
        partitions = self.topics[topic].partitions
        return [(partition.number, record) for partition in partitions for record in partition.log.records()]

    def move_leader(self, at: At, node: int, *, told_after_s: float = 0.0) -> None:
        """Makes another node the leader of a partition; clients are told of it only after some time."""
        partition = self.partition(at)
        assert partition is not None
        self.tell(f"node {node} leads {at[0]}/{at[1]}")
        partition.leader = node
        partition.log.leader_epoch += 1
        if told_after_s:
            self.later(told_after_s, lambda: setattr(partition, "told", partition.leader))
        else:
            partition.told = node
        partition.wake()

    def deny(self, name: str, *operations: str) -> None:
        """Takes away the right to describe, read or write a topic or group; gives it back without operations."""
        self.tell(f"{name}: {', '.join(operations) or 'nothing'} is denied")
        self.denied[name] = operations

    def is_denied(self, name: str, operation: str) -> bool:
        """Returns True if nobody may do this with a topic or group."""
        return bool(self.denied) and operation in self.denied.get(name, ())

    def trim(self, at: At, offset: int) -> None:
        """Drops records before an offset, as retention and DeleteRecords do."""
        self.tell(f"{at[0]}/{at[1]} now begins at {offset}")
        self.log(*at).trim(offset)

    def expire(self) -> None:
        """Drops records that are older than their topic's retention."""
        for partition in self.partitions():
            began = partition.log.start
            partition.log.expire(self.now_ms())
            if partition.log.start != began:
                self.tell(f"{partition.topic}/{partition.number} now begins at {partition.log.start}: retention")

    def compact(self, at: At, offsets: Sequence[int], *, keep_empty: bool = False) -> None:
        """Takes single records out of a log."""
        self.tell(f"{at[0]}/{at[1]} loses {sorted(offsets)} to compaction")
        self.log(*at).compact(offsets, keep_empty=keep_empty)

    # records

    def append(
        self,
        topic: str,
        partition: int,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] = (),
        headers: Sequence[Header] = (),
        timestamp: int | None = None,
        codec: int = 0,
    ) -> int:
        """Writes a batch, past the protocol. Returns its base offset. Raises ValueError when it is refused."""
        stamp = self.now_ms() if timestamp is None else timestamp
        rows = [(keys[n] if keys else None, value, headers, stamp) for n, value in enumerate(values)]
        return self.write((topic, partition), batch_of(rows, codec=codec))

    def write(self, at: At, raw: bytes, client: str = "") -> int:
        """Writes a batch as it is. Returns its base offset. Raises ValueError when it is refused."""
        found = self.partition(at)
        assert found is not None
        end = found.log.end
        code, base = found.log.append(raw, self.now_ms())
        if code:
            raise ValueError(code.name)
        if found.log.end > end:
            self.watcher.appended(at, found.log.batches[-1], client)
            found.wake()
        return base

    def transaction(self, transactional_id: str = "tx", timeout_s: float = 60.0) -> "OpenTransaction":
        """Opens a transaction, past the protocol."""
        return OpenTransaction(self, transactional_id, *self.transactions.init(transactional_id, timeout_s))

    def mark(self, at: At, producer_id: int, epoch: int, *, commit: bool) -> None:
        """See `transactions.Target`."""
        partition = self.partition(at)
        if partition is not None:
            self.tell(f"{at[0]}/{at[1]}: {'commit' if commit else 'abort'} of producer {producer_id}")
            partition.log.mark(producer_id, epoch, self.now_ms(), commit=commit)
            partition.wake()

    # groups

    def group(self, name: str) -> Group:
        """Returns a group, made if need be."""
        if name not in self.groups:
            told = partial(self._group_changed, name)
            self.groups[name] = Group(name, self.later, self._member_id, told, initial_delay_s=self._initial_delay_s)
        return self.groups[name]

    def _group_changed(self, name: str, why: str) -> None:
        self.tell(f"group {name}: {why}")
        if name in self.groups:
            self.watcher.changed(self.groups[name], why)

    def _member_id(self, of: str) -> str:
        return f"{of}-{self.rng.getrandbits(32):08x}-0000-4000-8000-000000000000"

    def commit_offsets(self, group: str, offsets: Mapping[At, tuple[int, str]]) -> None:
        """Commits offsets, past the protocol."""
        self.group(group).offsets.update(offsets)
        self.watcher.committed(group, "", "", -1, {at: offset for at, (offset, _) in offsets.items()})

    def coordinator(self, key: str) -> int:
        """Returns the number of the node that coordinates a group or transactional id, -1 if there is none."""
        if key not in self._coordinators:
            alive = self.alive
            self._coordinators[key] = alive[crc32(key.encode()) % len(alive)] if alive else -1
        return self._coordinators[key]

    def move_coordinator(self, key: str, node: int, *, load_s: float = 0.0) -> None:
        """Makes another node the coordinator of a group; it loads what was written last, and is busy so long."""
        self.tell(f"node {node} coordinates {key}")
        self._coordinators[key] = node
        group = self.groups.get(key)
        if group is not None:
            group.unload()
        self.loading.add(key)
        if load_s or node < 0:
            self.later(load_s, lambda: self._load(key, node))
        else:
            self._load(key, node)

    def _load(self, key: str, node: int) -> None:
        if self._coordinators[key] == node and node >= 0 and key in self.loading:
            self.loading.discard(key)
            if key in self.groups:
                self.groups[key].load()

    # telling

    def tell(self, what: str) -> None:
        """Enters an event in the trace."""
        self.trace.append(Entry(self.now(), what))

    def story(self, last: int | None = None) -> list[str]:
        """Returns the trace as lines, or its last ones."""
        return [str(entry) for entry in (self.trace if last is None else self.trace[-last:])]


class OpenTransaction:
    """A transaction that is written past the protocol."""

    def __init__(self, cluster: Cluster, name: str, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self._cluster = cluster
        self._name = name
        self._epoch = epoch
        self._sequences: dict[At, int] = {}

    def append(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] = ()
    ) -> int:
        """Writes a batch. Returns its base offset."""
        at = (topic, partition)
        self._cluster.transactions.add(self._name, at)
        log = self._cluster.log(*at)
        known = log.producers.get(self.producer_id)
        is_known = known is not None and known.epoch == self._epoch and bool(known.batches)
        first = self._sequences.setdefault(at, known.batches[-1][1] + 1 if known is not None and is_known else 0)
        stamp = self._cluster.now_ms()
        rows: list[Any] = [(keys[n] if keys else None, value, (), stamp) for n, value in enumerate(values)]
        raw = batch_of(rows, producer=(self.producer_id, self._epoch, first), transactional=True)
        self._sequences[at] += len(values)
        return self._cluster.write(at, raw)

    def commit(self) -> None:
        """Ends it; its records are seen."""
        self._cluster.transactions.end(self._name, commit=True)

    def abort(self) -> None:
        """Ends it; its records are never seen."""
        self._cluster.transactions.end(self._name, commit=False)
