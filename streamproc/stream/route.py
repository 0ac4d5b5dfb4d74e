"""Stage 3: which functions a record goes to, and in which order. Pure.

Event types match exactly. Several functions may take one type: the record settles when all have. What has no
function is poison (`unknown_type`), which a rule may turn into an ignored, counted record.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from streamproc.app import Stream
from streamproc.core.batcher import KeysOf
from streamproc.core.lanes import Key
from streamproc.core.ledger import Entry
from streamproc.core.plan import FunctionPlan, Routed
from streamproc.core.retry import Retry
from streamproc.model import Decoded, Poison, Reason


def plan(function: Stream) -> FunctionPlan:
    """What the engine must know of a declared function."""
    return FunctionPlan(
        name=function.name,
        event_type=function.event_type,
        keys_of=keys_of(function),
        retry=Retry(
            attempts_max=function.max_retry_attempts,
            age_max_s=function.max_record_age_s,
            base_s=function.backoff_s,
            cap_s=function.backoff_max_s,
        ),
        batch_size=function.batch_size,
        batch_window_s=function.batch_window_s,
    )


def keys_of(function: Stream) -> KeysOf:
    """Lane keys of records, list-wise: equal keys of one partition run in offset order, one at a time."""
    if function.order == "partition":
        return lambda _, indexes: [None] * len(indexes)
    if function.order == "unordered":
        return _offsets
    if function.key is None:
        return _record_keys
    field: Callable[[Any], Key] = attrgetter(function.key) if isinstance(function.key, str) else function.key
    return lambda entry, indexes: _event_keys(field, [entry.events[index] for index in indexes])


def asks_for_keys(functions: Sequence[Stream]) -> bool:
    """Whether the key of most records will be asked for: functions that take batches ask only after a failure."""
    return any(one.order == "key" and one.key is None and not one.batch_size for one in functions)


def _event_keys(field: Callable[[Any], Key], events: Sequence[Any]) -> Sequence[Key]:
    try:
        keys = [field(event) for event in events]
        hash(tuple(keys))
    except Exception:
        return [_event_key(field, event) for event in events]
    return keys


def _event_key(field: Callable[[Any], Key], event: Any) -> Key:
    """An event whose key cannot be told has none: it is ordered among its like, and no record stops a partition."""
    try:
        key = field(event)
        hash(key)
    except Exception:
        return None
    return key


def _record_keys(entry: Entry, indexes: Sequence[int]) -> Sequence[Key]:
    keys = entry.batch.records.keys
    return keys if len(indexes) == len(keys) else [keys[index] for index in indexes]


def _offsets(entry: Entry, indexes: Sequence[int]) -> Sequence[Key]:
    offsets = entry.batch.offsets
    return [offsets[index] for index in indexes]


class Router:
    """Where the events of one topic go; `ignored` are the reasons a rule lets pass."""

    def __init__(self, functions: Sequence[Stream], topic: str, ignored: frozenset[Reason]) -> None:
        self._numbers: dict[type, list[int]] = {}
        for number, function in enumerate(functions):
            if function.topic in (None, topic):
                self._numbers.setdefault(function.event, []).append(number)
        self._ignored = ignored

    def route(self, decoded: Decoded) -> Routed:
        """Groups a batch by event type."""
        groups = _by_type(decoded.events)
        poison = groups.pop(Poison, ())
        calls = [(number, indexes) for kind, indexes in groups.items() for number in self._numbers[kind]]
        shared = {
            index: len(self._numbers[kind])
            for kind, indexes in groups.items()
            if len(self._numbers[kind]) > 1
            for index in indexes
        }
        ignored = {index: "other" for index in poison if self._lets_pass(decoded.events[index])}
        return Routed(decoded, calls, [index for index in poison if index not in ignored], ignored, shared)

    def _lets_pass(self, event: object) -> bool:
        return isinstance(event, Poison) and event.reason in self._ignored


def _by_type(events: Sequence[object]) -> dict[type, Sequence[int]]:
    """Type -> indexes in order; a range where all are of one type, which the ledger settles as one."""
    kinds = set(map(type, events))
    if len(kinds) == 1:
        return {kinds.pop(): range(len(events))}
    groups: dict[type, list[int]] = {kind: [] for kind in dict.fromkeys(map(type, events))}
    for index, event in enumerate(events):
        groups[type(event)].append(index)
    return dict(groups)
