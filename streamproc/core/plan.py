"""What the engine is told: bounds, functions, and where the records of a batch go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamproc.core.batcher import KeysOf
from streamproc.core.retry import Retry
from streamproc.model import Decoded


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one consumer. A fetch that has begun may overshoot them by its own size.

    `partition_records`: unsettled records of one partition; `total_bytes`: held of all partitions; `span`: offsets
    from the oldest unsettled record of a partition to the newest read. Times in seconds.
    """

    partition_records: int = 4_000
    total_bytes: int = 33_554_432
    span: int = 100_000
    commit_interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """One function. Without `batch_size` it takes one event a call."""

    name: str
    event_type: str
    keys_of: KeysOf
    retry: Retry
    batch_size: int | None = None
    batch_window_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Routed:
    """A decoded batch and where its records go, by index.

    `calls` holds (number of the function, indexes); `shared` the number of functions of those records that do not
    have exactly one; `poison` becomes dead letters, `ignored` is settled at once under the rule that is named.
    """

    decoded: Decoded
    calls: Sequence[tuple[int, Sequence[int]]]
    poison: Sequence[int] = ()
    ignored: Mapping[int, str] = field(default_factory=dict)
    shared: Mapping[int, int] = field(default_factory=dict)
