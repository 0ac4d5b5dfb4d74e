"""Lanes against a dict of lists: one in flight per key, first in first out, whatever is parked, dropped or revoked."""

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamproc.core.lanes import Lanes, Work
from streamproc.model import TopicPartition
from tests.unit.core.build import P0, P1, entry

PARTITIONS = st.sampled_from([P0, P1])


class Item(NamedTuple):
    """A record of one delivery."""

    partition: TopicPartition
    epoch: int
    offset: int
    key: str


class LanesMachine(RuleBasedStateMachine):
    """`queues` is the model: per partition and key what is held, the first of which is ready, in a call or parked."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.epoch = {P0: 1, P1: 1}
        self.following = {P0: 0, P1: 0}
        self.queues: dict[tuple[TopicPartition, str], list[Item]] = {}
        self.ready: list[Item] = []
        self.running: dict[Item, Work] = {}
        self.parked: dict[Item, Work] = {}

    @rule(partition=PARTITIONS, keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=5), gap=st.integers(0, 2))
    def admit(self, partition: TopicPartition, keys: list[str], gap: int) -> None:
        first = self.following[partition] + gap
        offsets = range(first, first + len(keys))
        self.lanes.admit(entry(offsets, partition=partition), range(len(keys)), keys)
        self.following[partition] = offsets.stop
        for offset, key in zip(offsets, keys, strict=True):
            item = Item(partition, self.epoch[partition], offset, key)
            queue = self.queues.setdefault((partition, key), [])
            queue.append(item)
            if len(queue) == 1:
                self.ready.append(item)

    @precondition(lambda self: self.ready)
    @rule()
    def take(self) -> None:
        """First come, first served across keys."""
        work, item = self.lanes.take(), self.ready.pop(0)
        assert (work.lane.partition, work.offset, work.key) == (item.partition, item.offset, item.key)
        self.running[item] = work

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A call ended, of this epoch or an old one: the next of its key is ready."""
        item = data.draw(st.sampled_from(sorted(self.running)))
        self.lanes.release(self.running.pop(item))
        queue = self.queues[item.partition, item.key]
        assert queue.pop(0) == item
        if queue:
            self.ready.append(queue[0])
        else:
            del self.queues[item.partition, item.key]

    def _of_this_epoch(self) -> list[Item]:
        return sorted(item for item in self.running if item.epoch == self.epoch[item.partition])

    @precondition(lambda self: self._of_this_epoch())
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        """A call failed and will be repeated: its key waits, no worker does."""
        item = data.draw(st.sampled_from(self._of_this_epoch()))
        work = self.running.pop(item)
        self.lanes.hold(work)
        self.parked[item] = work

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Retries become due in any order."""
        item = data.draw(st.sampled_from(sorted(self.parked)))
        self.lanes.resume(self.parked.pop(item))
        self.ready.append(item)

    def _drop(self, partition: TopicPartition, beyond: int) -> None:
        self.lanes.drop(partition, beyond, list(self.parked.values()))

        def kept(item: Item) -> bool:
            return item.partition != partition or item in self.running or item.offset < beyond

        self.ready = [item for item in self.ready if kept(item)]
        self.parked = {item: work for item, work in self.parked.items() if kept(item)}
        queues = {name: [item for item in queue if kept(item)] for name, queue in self.queues.items()}
        self.queues = {name: queue for name, queue in queues.items() if queue}

    @rule(partition=PARTITIONS, above=st.integers(0, 6), back=st.none() | st.integers(0, 8))
    def give_up(self, partition: TopicPartition, above: int, back: int | None) -> None:
        """A drain drops what has not begun, from a horizon above everything in a call on; a revocation drops all.

        What is in a call stays. After a revocation the partition comes back, from some offset on.
        """
        if back is None:
            self._drop(partition, self.lanes.horizon(partition) + above)
        else:
            self._drop(partition, 0)
            self.epoch[partition] += 1
            self.following[partition] = max(0, self.following[partition] - back)

    @invariant()
    def one_in_flight_per_key(self) -> None:
        """ONE-IN-FLIGHT, across epochs too."""
        keys = [(work.lane.partition, work.key) for work in self.lanes.running]
        assert len(keys) == len(set(keys))
        assert self.lanes.running == set(self.running.values())

    @invariant()
    def agrees_with_the_model(self) -> None:
        """KEY-ORDER: what is ready, and in which order; what is held; what waits."""
        ready = [(work.lane.partition, work.offset, work.key) for work in self.lanes.ready]
        assert ready == [(item.partition, item.offset, item.key) for item in self.ready]
        assert self.lanes.waiting == sum(len(queue) - 1 for queue in self.queues.values())
        held = {(p, key) for p, lane in self.lanes.lanes.items() for key in lane.held}
        assert held == set(self.queues)

    @invariant()
    def tells_what_is_busy(self) -> None:
        """Busy is what runs or is ready; the horizon is above what runs."""
        for partition in (P0, P1):
            running = [item.offset for item in self.running if item.partition == partition]
            busy = bool(running) or any(item.partition == partition for item in self.ready)
            assert self.lanes.busy(partition) is busy
            assert self.lanes.horizon(partition) == max(running, default=-1) + 1


TestLanes = LanesMachine.TestCase
