"""The batcher against a dict of lists: batches in order per key, one in a call per partition, sizes and windows."""

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamproc.core.batcher import Batch, Batcher
from streamproc.core.lanes import Work
from streamproc.model import TopicPartition
from tests.unit.core.build import P0, P1, entry, keys_by

PARTITIONS = st.sampled_from([P0, P1])
KEYS = 3


class Item(NamedTuple):
    """A record of one delivery; its key is what is left of its offset."""

    partition: TopicPartition
    epoch: int
    offset: int

    @property
    def queue(self) -> tuple[TopicPartition, int]:
        """Where it stands in line."""
        return self.partition, self.offset % KEYS


class BatcherMachine(RuleBasedStateMachine):
    """`queues` is the model: per partition and key what is not finished, in order."""

    @initialize(size=st.sampled_from([1, 2, 3, 5, 12]), window_s=st.sampled_from([0.0, 5.0]))
    def begin(self, size: int, window_s: float) -> None:
        self.size, self.window_s, self.now = size, window_s, 100.0
        self.batcher = Batcher(size, window_s, keys_by(lambda offset: offset % KEYS))
        self.epoch = {P0: 1, P1: 1}
        self.following = {P0: 0, P1: 0}
        self.admitted_at: dict[Item, float] = {}
        self.queues: dict[tuple[TopicPartition, int], list[Item]] = {}
        self.calls: list[tuple[Batch, list[Item]]] = []
        self.parked: dict[Item, Work] = {}

    @rule(partition=PARTITIONS, count=st.integers(1, 5), later_s=st.integers(0, 3))
    def admit(self, partition: TopicPartition, count: int, later_s: int) -> None:
        self.now += later_s
        offsets = range(self.following[partition], self.following[partition] + count)
        self.batcher.admit(entry(offsets, partition=partition), range(count), self.now)
        self.following[partition] = offsets.stop
        for offset in offsets:
            item = Item(partition, self.epoch[partition], offset)
            self.queues.setdefault(item.queue, []).append(item)
            self.admitted_at[item] = self.now

    def _busy(self) -> set[TopicPartition]:
        return {item.partition for _, items in self.calls for item in items}

    def _free(self) -> list[Item]:
        """What may leave by the order of its key."""
        stuck = {item.queue for item in self.parked}
        queues = [queue for name, queue in self.queues.items() if name not in stuck and name[0] not in self._busy()]
        return [item for queue in queues for item in queue]

    @rule(later_s=st.integers(0, 6))
    def take(self, later_s: int) -> None:
        self.now += later_s
        free = self._free()
        batch = self.batcher.take(self.now)
        if batch is None:
            waited = [item for item in free if self.now - self.admitted_at[item] >= self.window_s]
            assert not waited, "what has waited for its window must leave"
            assert len(free) < self.size, "a full batch must leave"
            return
        works = self.batcher.works(batch)
        items = [Item(work.lane.partition, self.epoch[work.lane.partition], work.offset) for work in works]
        assert 1 <= len(items) == len(batch) <= self.size
        assert set(items) <= set(free)
        assert set(batch.lanes) == {work.lane for work in works}
        for item in items:
            assert self.queues[item.queue].pop(0) == item, "KEY-ORDER"
        self.calls.append((batch, items))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """All went well, or some records failed: they and the later ones of their keys are repeated."""
        batch, items = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        works = self.batcher.works(batch)
        current = [item.epoch == self.epoch[item.partition] for item in items]
        failing = data.draw(st.sets(st.integers(0, len(items) - 1)))
        failed: set[tuple[TopicPartition, int]] = set()
        again: list[int] = []
        for index, item in enumerate(items):
            if current[index] and (item.queue in failed or index in failing):
                failed.add(item.queue)
                again.append(index)
        heads = self.batcher.finish(batch, [works[index] for index in again])
        for index in reversed(again):
            self.queues.setdefault(items[index].queue, []).insert(0, items[index])
        firsts = {items[index].queue: index for index in reversed(again)}
        assert [works[index] for index in sorted(firsts.values())] == heads
        self.parked |= {items[index]: works[index] for index in firsts.values()}
        for head in heads:
            head.attempt += 1

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """The retry of a key is due."""
        item = data.draw(st.sampled_from(sorted(self.parked)))
        self.batcher.resume(self.parked.pop(item))
        self.admitted_at[item] = 0.0

    def _drop(self, partition: TopicPartition, beyond: int) -> None:
        self.batcher.drop(partition, beyond, list(self.parked.values()))

        def kept(item: Item) -> bool:
            return item.partition != partition or item.offset < beyond

        self.queues = {name: [item for item in queue if kept(item)] for name, queue in self.queues.items()}
        self.parked = {item: work for item, work in self.parked.items() if kept(item)}
        for item in self.admitted_at:
            if item.partition == partition:
                self.admitted_at[item] = 0.0

    @rule(partition=PARTITIONS, above=st.integers(0, 8), back=st.none() | st.integers(0, 8))
    def give_up(self, partition: TopicPartition, above: int, back: int | None) -> None:
        """A drain drops what stands above the horizon and lets nothing wait for its window; a revocation drops all.

        What is in a call stays. After a revocation the partition comes back, from some offset on.
        """
        if back is None:
            self._drop(partition, self.batcher.horizon(partition) + above)
        else:
            self._drop(partition, 0)
            self.epoch[partition] += 1
            self.following[partition] = max(0, self.following[partition] - back)

    @invariant()
    def one_batch_in_a_call_per_partition(self) -> None:
        """ONE-IN-FLIGHT, across epochs too."""
        partitions = [lane.partition for batch in self.batcher.running for lane in batch.lanes]
        assert len(partitions) == len(set(partitions))
        assert set(partitions) == self._busy()

    @invariant()
    def tells_what_is_busy(self) -> None:
        """Busy is what is in a call or may leave; the horizon is above what is in a call."""
        stuck = {item.queue for item in self.parked}
        for partition in (P0, P1):
            running = [item.offset for _, items in self.calls for item in items if item.partition == partition]
            assert self.batcher.horizon(partition) == max(running, default=-1) + 1
            free = [name for name, queue in self.queues.items() if queue and name[0] == partition and name not in stuck]
            if running or free:
                assert self.batcher.busy(partition)


TestBatcher = BatcherMachine.TestCase
