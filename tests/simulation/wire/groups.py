"""The coordinator of consumer groups, by the classic protocol: states, timers and refusals as in Apache Kafka 4."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.simulation.wire.protocol import Code

Later = Callable[[float, Callable[[], None]], Any]
"""Calls a function after some seconds; returns a handle with `cancel`."""
Answer = Callable[..., None]
"""Answers a join with error, generation, protocol, leader, member id and members; a sync with error and assignment."""

NEW_MEMBER_JOIN_S = 300.0
METADATA_BYTES_MAX = 4096


class State(Enum):
    """What a group is about."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Member:
    """A member of a group. `join` and `sync` answer the request it waits with, if any."""

    def __init__(self, member_id: str, instance_id: str | None, client: str) -> None:
        self.id = member_id
        self.instance_id = instance_id
        self.client = client
        self.session_s = 0.0
        self.rebalance_s = 0.0
        self.protocols: list[tuple[str, bytes]] = []
        self.assignment = b""
        self.is_new = True
        self.join: Answer | None = None
        self.sync: Answer | None = None

    def metadata(self, protocol: str) -> bytes:
        """What it says of itself for a protocol."""
        return dict(self.protocols).get(protocol, b"")


@dataclass(slots=True)
class Joining:
    """A JoinGroup request."""

    client: str
    member_id: str
    instance_id: str | None
    session_s: float
    rebalance_s: float
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    answer: Answer


class Group:
    """One group. `told` is called with a sentence for each change of its state."""

    def __init__(
        self,
        name: str,
        later: Later,
        new_id: Callable[[str], str],
        told: Callable[[str], None],
        *,
        initial_delay_s: float = 0.0,
    ) -> None:
        self.name = name
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.offsets: dict[tuple[str, int], tuple[int, str]] = {}
        """Committed offset and metadata by topic and partition."""
        self._later = later
        self._new_id = new_id
        self._told = told
        self._initial_delay_s = initial_delay_s
        self._pending: dict[str, None] = {}
        self._pending_sync: dict[str, None] = {}
        self._statics: dict[str, str] = {}
        self._timers: dict[str, Any] = {}
        self._was = State.EMPTY
        self._member_added = False
        self._saved: tuple[int, str, str | None, str | None, list[Member]] = (0, "", None, None, [])

    # requests

    def join(self, asks: Joining) -> None:
        """JoinGroup, of version 5."""
        if not self._supports(asks):
            asks.answer(Code.INCONSISTENT_GROUP_PROTOCOL)
        elif not asks.member_id:
            self._join_new(asks)
        elif asks.member_id in self._pending:
            self._add(asks, asks.member_id)
        elif code := self._check(asks.member_id, asks.instance_id):
            asks.answer(code, member_id=asks.member_id)
        else:
            self._rejoin(asks, self.members[asks.member_id])

    def _join_new(self, asks: Joining) -> None:
        member_id = self._new_id(asks.instance_id or asks.client)
        if asks.instance_id is None:
            self._pending[member_id] = None
            self._expect(member_id, asks.session_s)
            asks.answer(Code.MEMBER_ID_REQUIRED, member_id=member_id)
        elif asks.instance_id in self._statics:
            self._replace(asks, self._statics[asks.instance_id], member_id)
        else:
            self._add(asks, member_id)

    def _rejoin(self, asks: Joining, member: Member) -> None:
        is_changed = member.protocols != asks.protocols
        is_leader = self.leader == member.id
        if self.state is State.PREPARING or is_changed or (self.state is State.STABLE and is_leader):
            self._update(member, asks)
            self._rebalance_or_complete(f"{member.id} joins again")
        else:
            members = self._described() if is_leader and self.state is State.COMPLETING else []
            self._answer_join(asks.answer, member.id, members)

    def sync(
        self,
        member_id: str,
        instance_id: str | None,
        generation: int,
        assignments: Iterable[tuple[str, bytes]],
        answer: Answer,
    ) -> None:
        """SyncGroup."""
        if code := self._check(member_id, instance_id, generation):
            answer(code)
        elif self.state is State.PREPARING:
            answer(Code.REBALANCE_IN_PROGRESS)
        elif self.state is State.STABLE:
            self._pending_sync.pop(member_id, None)
            answer(Code.NONE, self.members[member_id].assignment)
        else:
            self.members[member_id].sync = answer
            self._pending_sync.pop(member_id, None)
            if self.leader == member_id:
                self._stabilize(dict(assignments))

    def _stabilize(self, assignments: dict[str, bytes]) -> None:
        for member in self.members.values():
            member.assignment = assignments.get(member.id, b"")
        self._become(State.STABLE, "its leader has assigned")
        self._save()
        self._answer_syncs(Code.NONE)

    def heartbeat(self, member_id: str, generation: int) -> Code:
        """Heartbeat."""
        if code := self._check(member_id, None, generation):
            return code
        self._expect(member_id, self.members[member_id].session_s)
        return Code.REBALANCE_IN_PROGRESS if self.state is State.PREPARING else Code.NONE

    def leave(self, member_id: str) -> Code:
        """LeaveGroup."""
        if member_id in self._pending:
            self._drop(member_id)
        elif code := self._check(member_id, None):
            return code
        else:
            self._dismiss(self.members[member_id])
        if self.state in (State.STABLE, State.COMPLETING):
            self._rebalance_or_complete(f"{member_id} leaves")
        elif self.state is State.PREPARING:
            self._maybe_complete()
        return Code.NONE

    def check_commit(self, member_id: str, generation: int, *, transactional: bool = False) -> Code:
        """Returns why a commit is refused; an accepted one counts as a heartbeat."""
        if generation < 0 and self.state is State.EMPTY:
            return Code.NONE
        if generation >= 0 or member_id:
            if code := self._check(member_id, None, generation):
                return code
        elif not transactional:
            return Code.UNKNOWN_MEMBER_ID
        if transactional:
            return Code.NONE
        if self.state is State.COMPLETING:
            return Code.REBALANCE_IN_PROGRESS
        self._expect(member_id, self.members[member_id].session_s)
        return Code.NONE

    # its life at a coordinator

    def unload(self) -> None:
        """Ends at this coordinator: who waits is told so."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for member in self.members.values():
            self._end_join(member, Code.NOT_COORDINATOR, member.id)
            self._end_sync(member, Code.NOT_COORDINATOR)

    def load(self) -> None:
        """Begins at another coordinator, with what was written last: the generation that synced last, or none."""
        self.generation, self.protocol_type, self.protocol, self.leader, members = self._saved
        self._pending.clear()
        self._pending_sync.clear()
        self.members = {}
        for saved in members:
            member = Member(saved.id, saved.instance_id, saved.client)
            member.session_s, member.rebalance_s, member.is_new = saved.session_s, saved.rebalance_s, False
            member.protocols, member.assignment = list(saved.protocols), saved.assignment
            self.members[member.id] = member
        self._statics = {one.instance_id: one.id for one in self.members.values() if one.instance_id is not None}
        self._become(State.STABLE if self.members else State.EMPTY, "it was loaded")
        for member in self.members.values():
            self._expect(member.id, member.session_s)

    def _save(self) -> None:
        members = []
        for one in self.members.values():
            saved = Member(one.id, one.instance_id, one.client)
            saved.session_s, saved.rebalance_s, saved.assignment = one.session_s, one.rebalance_s, one.assignment
            saved.protocols = [(self.protocol or "", one.metadata(self.protocol or ""))]
            members.append(saved)
        self._saved = (self.generation, self.protocol_type, self.protocol, self.leader, members)

    # members

    def _supports(self, asks: Joining) -> bool:
        if self.state is State.EMPTY:
            return bool(asks.protocol_type and asks.protocols)
        names = {name for name, _ in asks.protocols}
        return asks.protocol_type == self.protocol_type and not names.isdisjoint(self._candidates())

    def _candidates(self) -> list[str]:
        lists = [[name for name, _ in member.protocols] for member in self.members.values()]
        return [name for name in lists[0] if all(name in one for one in lists)] if lists else []

    def _check(self, member_id: str, instance_id: str | None, generation: int | None = None) -> Code:
        if instance_id is not None:
            if instance_id not in self._statics:
                return Code.UNKNOWN_MEMBER_ID
            if self._statics[instance_id] != member_id:
                return Code.FENCED_INSTANCE_ID
        if member_id not in self.members:
            return Code.UNKNOWN_MEMBER_ID
        return Code.ILLEGAL_GENERATION if generation not in (None, self.generation) else Code.NONE

    def _add(self, asks: Joining, member_id: str) -> None:
        member = Member(member_id, asks.instance_id, asks.client)
        if asks.instance_id is not None:
            self._statics[asks.instance_id] = member_id
        if not self.members:
            self.protocol_type = asks.protocol_type
        self.leader = self.leader or member_id
        self.members[member_id] = member
        self._pending.pop(member_id, None)
        self._update(member, asks)
        if self.state is State.PREPARING and self._was is State.EMPTY:
            self._member_added = True
        self._expect(member_id, NEW_MEMBER_JOIN_S)
        self._rebalance_or_complete(f"{member_id} joins")

    def _update(self, member: Member, asks: Joining) -> None:
        member.protocols = asks.protocols
        member.session_s, member.rebalance_s = asks.session_s, asks.rebalance_s
        member.join = asks.answer

    def _replace(self, asks: Joining, old_id: str, new_id: str) -> None:
        """Gives the place of a static member to its successor, who has joined without the old member id."""
        old = self.members.pop(old_id)
        self._end_join(old, Code.FENCED_INSTANCE_ID, old_id)
        self._end_sync(old, Code.FENCED_INSTANCE_ID)
        told_leader = self.leader
        member = Member(new_id, asks.instance_id, asks.client)
        member.assignment, member.is_new = old.assignment, False
        self.members[new_id] = member
        self._statics[asks.instance_id or ""] = new_id
        if self.leader == old_id:
            self.leader = new_id
        self._update(member, asks)
        self._expect(new_id, asks.session_s)
        self._told(f"{new_id} replaces {old_id}")
        if self.state is State.STABLE and self._elect_protocol() == self.protocol:
            self._save()
            member.join = None
            asks.answer(Code.NONE, self.generation, self.protocol, told_leader, new_id, [])
        elif self.state is State.COMPLETING:
            self._prepare(f"{new_id} replaces {old_id}")
        elif self.state is State.STABLE:
            self._rebalance_or_complete(f"{new_id} changes the protocol")
        else:
            self._maybe_complete()

    def _drop(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is not None and member.instance_id is not None:
            del self._statics[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self._pending.pop(member_id, None)
        self._pending_sync.pop(member_id, None)
        self._cancel(member_id)

    def _dismiss(self, member: Member) -> None:
        self._end_join(member, Code.UNKNOWN_MEMBER_ID, "")
        self._drop(member.id)

    def _expect(self, member_id: str, within_s: float) -> None:
        self._schedule(member_id, within_s, lambda: self._expire(member_id))

    def _expire(self, member_id: str) -> None:
        """Evicts a member that was not heard of in time."""
        member = self.members.get(member_id)
        if member_id in self._pending:
            self._drop(member_id)
            self._maybe_complete_all_joined()
        elif member is not None and (member.is_new or not (member.join or member.sync)):
            self._told(f"{member_id} was not heard of in time")
            self._dismiss(member)
            if self.state in (State.STABLE, State.COMPLETING):
                self._rebalance_or_complete(f"{member_id} was evicted")
            else:
                self._maybe_complete_all_joined()

    # rebalances

    def _rebalance_or_complete(self, why: str) -> None:
        if self.state is State.PREPARING:
            self._maybe_complete()
        else:
            self._prepare(why)

    def _prepare(self, why: str) -> None:
        if self.state is State.COMPLETING:
            for member in self.members.values():
                member.assignment = b""
            self._answer_syncs(Code.REBALANCE_IN_PROGRESS)
        self._pending_sync.clear()
        self._cancel(" sync")
        is_initial = self.state is State.EMPTY
        self._become(State.PREPARING, why)
        if is_initial:
            left = max(0.0, self._longest_rebalance() - self._initial_delay_s)
            self._schedule(" join", self._initial_delay_s, lambda: self._extend(self._initial_delay_s, left))
        elif self._all_joined():
            self._complete()
        else:
            self._schedule(" join", self._longest_rebalance(), self._complete)

    def _extend(self, delay_s: float, left_s: float) -> None:
        """Waits for more first members as long as they come."""
        if not (self._member_added and left_s > 0):
            self._complete()
            return
        self._member_added = False
        delay, left = min(self._initial_delay_s, left_s), max(0.0, left_s - delay_s)
        self._schedule(" join", delay, lambda: self._extend(delay, left))

    def _maybe_complete(self) -> None:
        if self._was is not State.EMPTY:
            self._maybe_complete_all_joined()

    def _maybe_complete_all_joined(self) -> None:
        if self.state is State.PREPARING and self._all_joined():
            self._complete()

    def _all_joined(self) -> bool:
        return not self._pending and all(member.join for member in self.members.values())

    def _complete(self) -> None:
        """Ends the joining: a generation begins with those who have joined, and static members who have not."""
        self._cancel(" join")
        for member in [one for one in self.members.values() if not one.join and one.instance_id is None]:
            self._drop(member.id)
        if self.members and not self._elect_leader():
            self._schedule(" join", self._longest_rebalance(), self._complete)
            return
        self.generation += 1
        self._pending_sync.clear()
        if not self.members:
            self.protocol = None
            self._become(State.EMPTY, "nobody is left")
            self._save()
            return
        self.protocol = self._elect_protocol()
        self._become(State.COMPLETING, "all have joined")
        for member in list(self.members.values()):
            answer, member.join = member.join, None
            self._expect(member.id, member.session_s)
            member.is_new = False
            self._pending_sync[member.id] = None
            if answer is not None:
                self._answer_join(answer, member.id, self._described() if member.id == self.leader else [])
        generation = self.generation
        self._schedule(" sync", self._longest_rebalance(), lambda: self._expire_sync(generation))

    def _expire_sync(self, generation: int) -> None:
        if generation == self.generation and self.state in (State.COMPLETING, State.STABLE) and self._pending_sync:
            for member_id in list(self._pending_sync):
                self._drop(member_id)
            self._prepare("not all have synced")

    def _elect_leader(self) -> bool:
        if self.leader is not None and self.members[self.leader].join:
            return True
        joined = [member.id for member in self.members.values() if member.join]
        self.leader = joined[0] if joined else self.leader
        return bool(joined)

    def _elect_protocol(self) -> str:
        candidates = self._candidates()
        votes = [next(name for name, _ in one.protocols if name in candidates) for one in self.members.values()]
        return max(candidates, key=votes.count)

    def _longest_rebalance(self) -> float:
        return max((member.rebalance_s for member in self.members.values()), default=0.0)

    def _described(self) -> list[tuple[str, str | None, bytes]]:
        return [(one.id, one.instance_id, one.metadata(self.protocol or "")) for one in self.members.values()]

    def _answer_join(self, answer: Answer, member_id: str, members: list[Any]) -> None:
        answer(Code.NONE, self.generation, self.protocol, self.leader, member_id, members)

    def _answer_syncs(self, code: Code) -> None:
        for member in list(self.members.values()):
            if member.sync:
                self._end_sync(member, code)
                self._expect(member.id, member.session_s)

    def _end_join(self, member: Member, code: Code, member_id: str) -> None:
        answer, member.join = member.join, None
        if answer is not None:
            answer(code, member_id=member_id)

    def _end_sync(self, member: Member, code: Code) -> None:
        answer, member.sync = member.sync, None
        if answer is not None:
            answer(code, b"" if code else member.assignment)

    def _become(self, state: State, why: str) -> None:
        self._was, self.state = self.state, state
        self._told(f"{state.value}, generation {self.generation}, {len(self.members)} members: {why}")

    # timers

    def _schedule(self, name: str, within_s: float, then: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = self._later(within_s, then)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
