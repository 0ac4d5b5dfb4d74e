"""The coordinator of transactions, and the ids of producers."""

from collections.abc import Mapping
from typing import Any, Protocol

from tests.simulation.wire.groups import Later
from tests.simulation.wire.protocol import Code

At = tuple[str, int]


class Target(Protocol):
    """What a transaction ends in."""

    def mark(self, at: At, producer_id: int, epoch: int, *, commit: bool) -> None:
        """Writes a marker to a partition."""

    def commit_offsets(self, group: str, offsets: Mapping[At, tuple[int, str]]) -> None:
        """Commits a group's offsets."""


class Transaction:
    """A transactional id and its transaction, if one is open."""

    def __init__(self, producer_id: int, epoch: int, timeout_s: float) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.timeout_s = timeout_s
        self.is_open = False
        self.ended: bool | None = None
        """How the last one ended: True when committed."""
        self.partitions: dict[At, None] = {}
        self.offsets: dict[str, dict[At, tuple[int, str]]] = {}
        self.timer: Any = None


class Transactions:
    """See the module's docstring."""

    def __init__(self, target: Target, later: Later) -> None:
        self._target = target
        self._later = later
        self._next_id = 1_000
        self._by_id: dict[str, Transaction] = {}

    def init(self, transactional_id: str | None, timeout_s: float) -> tuple[int, int]:
        """Returns producer id and epoch. An open transaction of the same id is aborted, and its producer fenced."""
        found = self._by_id.get(transactional_id) if transactional_id is not None else None
        if found is None:
            self._next_id += 1
            found = Transaction(self._next_id, -1, timeout_s)
            if transactional_id is not None:
                self._by_id[transactional_id] = found
        found.epoch += 1
        found.timeout_s = timeout_s
        if found.is_open:
            self._end(found, commit=False)
        found.ended = None
        return found.producer_id, found.epoch

    def check(self, transactional_id: str, producer_id: int, epoch: int) -> Code:
        """Returns why a request of a transaction is refused."""
        found = self._by_id.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        return Code.INVALID_PRODUCER_EPOCH if found.epoch != epoch else Code.NONE

    def add(self, transactional_id: str, partition: At | None) -> None:
        """Opens the transaction, with a partition or a group's offsets."""
        found = self._by_id[transactional_id]
        if not found.is_open:
            found.is_open = True
            found.timer = self._later(found.timeout_s, lambda: self._time_out(found))
        if partition is not None:
            found.partitions[partition] = None

    def holds(self, producer_id: int, partition: At) -> bool:
        """Returns True if a partition is part of a producer's open transaction."""
        return any(
            one.is_open and one.producer_id == producer_id and partition in one.partitions
            for one in self._by_id.values()
        )

    def add_offsets(self, transactional_id: str, group: str, offsets: Mapping[At, tuple[int, str]]) -> None:
        """Keeps offsets to be committed with the transaction."""
        self._by_id[transactional_id].offsets.setdefault(group, {}).update(offsets)

    def end(self, transactional_id: str, *, commit: bool) -> Code:
        """Commits or aborts; the same answer again when it is repeated."""
        found = self._by_id[transactional_id]
        if not found.is_open:
            return Code.NONE if found.ended is commit else Code.INVALID_TXN_STATE
        self._end(found, commit=commit)
        return Code.NONE

    def _time_out(self, found: Transaction) -> None:
        found.epoch += 1
        self._end(found, commit=False)

    def _end(self, found: Transaction, *, commit: bool) -> None:
        found.timer.cancel()
        found.is_open = False
        found.ended = commit
        partitions, found.partitions = found.partitions, {}
        offsets, found.offsets = found.offsets, {}
        for at in partitions:
            self._target.mark(at, found.producer_id, found.epoch, commit=commit)
        for group, committed in offsets.items() if commit else ():
            self._target.commit_offsets(group, committed)
