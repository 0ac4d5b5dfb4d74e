"""Judges a run from the broker's side and from outside the functions.

L  every record that was acknowledged (and, in a transaction, committed) is handled, a dead letter that lies in its
   topic, or ignored by rule
X  nothing is handled that the group was told to leave out, or that was never committed
C  a commit never passes a record that is not settled; one of a later generation never falls back
O  the calls of a key never overlap in one process, and its records are finished first in the order of their offsets
D  nothing is handled twice where every member left in good order and drained in time, and all answers came
DRAINS  once faults end, everything is settled and committed to the end, and no backlog is left
HELD  nothing begins in a member whose session the broker has ended, until it is assigned partitions again
CRASH  nothing ends but by an error for people
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.wire.cluster import Watcher
from tests.simulation.wire.groups import Group
from tests.simulation.wire.log import Batch
from tests.simulation.wire.story import Made

if TYPE_CHECKING:
    from tests.simulation.wire.play import World

At = tuple[str, int]
TOPIC, DEAD, GROUP = "events", "events.dlq", "g"
INVARIANTS = frozenset({"L", "X", "C", "O", "D", "DRAINS", "HELD", "CRASH"})
_UID = re.compile(rb'"uid":(\d+)')


class Violation(AssertionError):
    """An invariant that does not hold. `invariant` is its name."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


@dataclass(slots=True)
class Written:
    """A record in the log. `topic` is the id of its topic; `visible` False until its transaction is committed."""

    made: Made
    topic: bytes
    partition: int
    offset: int
    at: float
    visible: bool
    finished: list[tuple[float, str]] = field(default_factory=list)
    """When calls of it ended for good, and in which member."""
    letter: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it needs nothing more."""
        return bool(self.finished and self.made.fate != "reject") or self.letter or self.made.fate == "tombstone"


class Oracle(Watcher):
    """Told of every effect; keeps the first violation of what it `judges` for the loop's next step."""

    def __init__(self, judges: Set[str] = INVARIANTS) -> None:
        self.world: World | None = None
        self.violation: Violation | None = None
        self._judges = judges
        self.written: dict[int, Written] = {}
        self.counts: Counter[str] = Counter()
        self.first_assigned = float("inf")
        self.first_member = float("inf")
        self.first_topic = b""
        self.trimmed: dict[At, int] = defaultdict(int)
        self.lost: set[tuple[bytes, int, int]] = set()
        """Records that the broker dropped before they could be read."""
        self.all_drained = True
        """Whether no drain was ended by its deadline."""
        self._evicted: set[str] = set()
        self._open: dict[tuple[str, At, str, int], tuple[int, int]] = {}
        self._finished_to: dict[tuple[bytes, int, str, int], int] = {}
        self._committed: dict[tuple[bytes, int], tuple[int, int]] = {}

    def fail(self, invariant: str, what: str) -> None:
        """Keeps the first violation; the loop raises it."""
        if self.violation is None and invariant in self._judges:
            self.violation = Violation(invariant, what)

    # what is written

    def wrote(self, made: Made, topic: bytes, partition: int, offset: int, at: float, *, visible: bool) -> None:
        """A record was appended."""
        self.first_topic = self.first_topic or topic
        self.written[made.uid] = Written(made, topic, partition, offset, at, visible)
        self.counts["records"] += 1

    def appended(self, at: At, batch: Batch, client: str) -> None:
        """Takes in dead letters."""
        if at[0] != DEAD:
            return
        for record in batch.records():
            headers = dict(record.headers)
            found = _UID.search(record.value or b"")
            if found is None:
                offset = headers.get("__streamproc.errors.offset", b"?").decode()
                self.fail("L", f"the dead letter of offset {offset} holds not what the record held")
                return
            self.written[int(found[1])].letter = True
            self.counts["letters"] += 1

    # members

    def changed(self, group: Group, why: str) -> None:
        """Notes whose session ended, and who is a member again because a coordinator remembers no end."""
        assert self.world is not None
        member_id, _, what = why.partition(" ")
        if what == "was not heard of in time":
            self.counts["evicted"] += 1
            self._evicted.update(one.name for one in self.world.members if one.group_member_id == member_id)
        elif why.endswith(": it was loaded"):
            self._evicted.difference_update(
                one.name for one in self.world.members if one.group_member_id in group.members
            )

    def assigned(self, process: str) -> None:
        """A member was assigned partitions."""
        self._evicted.discard(process)

    # calls

    def began(self, member: str, at: At, function: str, key: int, uid: int, *, call: int) -> None:
        """A call began; one of many records has the same number for all of them."""
        other, earlier = self._open.setdefault((member, at, function, key), (call, uid))
        if other != call:
            self.fail("O", f"{member}: {function} has record {uid} of key {key} while {earlier} is in a call")
        if member.partition(".")[0] in self._evicted:
            self.fail("HELD", f"{member}: a call of {function} with record {uid} began after its session had ended")
        one = self.written[uid]
        if not one.visible:
            self.fail("X", f"{member} was given record {uid}, whose transaction is not committed")
        assert self.world is not None
        if self.world.story.starting_position == "latest" and one.at < self.first_member:
            self.fail("X", f"{member} was given record {uid} of before the group's beginning")

    def ended(self, member: str, at: At, function: str, key: int, uid: int, now: float, *, finished: bool) -> None:
        """A call ended, for good or to be repeated."""
        self._open.pop((member, at, function, key), None)
        if not finished:
            return
        one = self.written[uid]
        if not one.finished:
            where = (one.topic, one.partition, function, key)
            # A topic made anew may be read at the old position until that is noticed; then all of it is read again.
            is_first = one.topic == self.first_topic
            if is_first and one.offset < self._finished_to.get(where, -1):
                self.fail("O", f"{function} finished record {uid} (offset {one.offset}) of key {key} after a later one")
            self._finished_to[where] = max(one.offset, self._finished_to.get(where, -1))
        else:
            self.counts["repeated"] += 1
            if self.all_drained and self.world is not None and self.world.story.theme == "calm":
                self.fail("D", f"record {uid} was handled by {one.finished[0][1]} and again by {member}")
        one.finished.append((now, member))
        self.counts["handled"] += 1

    def gave_up(self, member: str) -> None:
        """A member's calls are of no account any more."""
        for where in [where for where in self._open if where[0] == member]:
            del self._open[where]

    # commits

    def committed(self, group: str, client: str, member_id: str, generation: int, offsets: Mapping[At, int]) -> None:
        """Checks each commit against what is settled."""
        self.counts["commits"] += 1
        assert self.world is not None
        for at, offset in offsets.items():
            topic = self.world.topic_id(at[0])
            if topic is None or self._is_of_another(group, at, topic):
                continue
            before, last = self._committed.get((topic, at[1]), (None, generation))
            self._committed[topic, at[1]] = (offset, generation)
            if before is None:  # where the group begins
                continue
            # One that was on its way when its connection broke may still arrive behind its successor.
            if offset < before and generation > last:
                self.fail("C", f"{client} committed {offset} of {at[0]}/{at[1]}, which stood at {before}")
            for one in self._unsettled(topic, at[1], before, offset):
                self.fail(
                    "C", f"{client} committed {offset} of {at[0]}/{at[1]}, beyond record {one.made.uid} at {one.offset}"
                )

    def _is_of_another(self, group: str, at: At, topic: bytes) -> bool:
        """Whether a commit says that it is of a topic that had the same name; it is not read as one of this topic."""
        assert self.world is not None
        metadata = self.world.cluster.group(group).offsets.get(at, (0, ""))[1]
        return metadata.startswith("id=") and metadata != f"id={topic.hex()}"

    def _unsettled(self, topic: bytes, partition: int, begin: int, end: int) -> Iterator[Written]:
        for one in self.written.values():
            is_below = one.topic == topic and one.partition == partition and begin <= one.offset < end
            if is_below and one.visible and not one.is_settled and not self._is_gone(one):
                yield one

    def _is_gone(self, one: Written) -> bool:
        return (one.topic, one.partition, one.offset) in self.lost

    # the end

    def must_be_settled(self) -> Iterator[Written]:
        """Records that are to be handled and are not."""
        assert self.world is not None
        latest = self.world.story.starting_position == "latest"
        stopped = self.world.stopped()
        for one in self.written.values():
            if one.topic != self.world.topic_id(TOPIC) or not one.visible or self._is_gone(one) or one.is_settled:
                continue
            if (
                one.partition in stopped
                or one.offset >= self._stable_end(one)
                or (latest and one.at <= self.first_assigned)
            ):
                continue
            yield one

    def _stable_end(self, one: Written) -> int:
        assert self.world is not None
        return self.world.cluster.log(TOPIC, one.partition).stable_end

    def unrest(self) -> Iterator[str]:
        """Yields what is not at rest yet."""
        assert self.world is not None
        for one in self.must_be_settled():
            yield f"record {one.made.uid} ({one.made.fate}) at {TOPIC}/{one.partition}@{one.offset} is not settled"
        stopped = self.world.stopped()
        offsets = self.world.cluster.group(GROUP).offsets
        for partition in self.world.cluster.topics[TOPIC].partitions:
            end, committed = partition.log.stable_end, offsets.get((TOPIC, partition.number), (-1, ""))[0]
            if partition.number not in stopped and committed != end:
                yield f"{TOPIC}/{partition.number} is committed up to {committed} of {end}"
        yield from self.world.backlogs()

    def final(self) -> None:
        """Judges the end, after everything came to rest and all have left."""
        letters = {int(m[1]) for _, record in self._letters() if (m := _UID.search(record.value or b""))}
        for uid, one in self.written.items():
            if one.letter and uid not in letters:
                self.fail("L", f"the dead letter of record {uid} is gone from its topic")

    def _letters(self) -> list[tuple[int, Any]]:
        assert self.world is not None
        return self.world.cluster.records(DEAD)
