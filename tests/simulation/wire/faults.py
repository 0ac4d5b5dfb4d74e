"""What may go wrong with a request, and when. Everything is drawn from one seeded `Random`."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.simulation.wire.protocol import Api, Code

if TYPE_CHECKING:
    from tests.simulation.wire.call import Call

At = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to one request. Times are in seconds.

    `before_s` passes before the effect, `after_s` between the effect and the answer; requests and answers of one
    connection keep their order, so that both hold up the whole connection. `cut` resets the connection in place of the
    effect or of the answer. `error` is answered, with the effect all the same when `effect`; for `only` some
    partitions of the request, else for all of it.
    """

    before_s: float = 0.0
    after_s: float = 0.0
    cut: Literal["", "before", "after"] = ""
    error: Code = Code.NONE
    effect: bool = False
    only: frozenset[At] | None = None

    def __str__(self) -> str:
        parts = [
            f"held {self.before_s:.3f} s" if self.before_s else "",
            f"answer held {self.after_s:.3f} s" if self.after_s else "",
            f"cut {self.cut} the effect" if self.cut else "",
            f"{self.error.name}{' after the effect' if self.effect else ''}" if self.error else "",
            f"for {sorted(self.only)} only" if self.only is not None else "",
        ]
        return ", ".join(filter(None, parts))


NO_TROUBLE = Trouble()


class Faults:
    """Asked for each request; nothing goes wrong but what `once` was told."""

    def __init__(self) -> None:
        self._planned: list[tuple[Callable[[Call], bool], Trouble]] = []

    def once(self, api: Api, trouble: Trouble, *, client: str = "", skip: int = 0, times: int = 1) -> None:
        """Plans trouble for the next request of a kind (of one client), after `skip` others, so many `times`."""
        left = skip

        def matches(call: "Call") -> bool:
            nonlocal left
            if call.api is not api or (client and call.client != client):
                return False
            left -= 1
            return left < 0

        self._planned += [(matches, trouble)] * times

    def trouble(self, call: "Call") -> Trouble:
        """Returns what happens to a request."""
        for index, (matches, trouble) in enumerate(self._planned):
            if matches(call):
                del self._planned[index]
                return trouble
        return NO_TROUBLE


@dataclass(frozen=True, slots=True)
class Rates:
    """How often things go wrong with a request, from 0 to 1, and for how long at most, in seconds."""

    slow: float = 0.0
    slow_answer: float = 0.0
    cut_before: float = 0.0
    cut_after: float = 0.0
    error: float = 0.0
    slow_s: float = 1.0


REFUSALS: Mapping[Api, tuple[tuple[Code, bool], ...]] = {
    Api.PRODUCE: (
        (Code.NOT_LEADER_OR_FOLLOWER, False),
        (Code.UNKNOWN_TOPIC_OR_PARTITION, False),
        (Code.NOT_ENOUGH_REPLICAS, False),
        (Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND, True),
        (Code.REQUEST_TIMED_OUT, True),
        (Code.KAFKA_STORAGE_ERROR, False),
    ),
    Api.FETCH: (
        (Code.NOT_LEADER_OR_FOLLOWER, False),
        (Code.UNKNOWN_TOPIC_OR_PARTITION, False),
        (Code.REPLICA_NOT_AVAILABLE, False),
        (Code.KAFKA_STORAGE_ERROR, False),
        (Code.OFFSET_NOT_AVAILABLE, False),
        (Code.UNKNOWN_SERVER_ERROR, False),
    ),
    Api.LIST_OFFSETS: (
        (Code.NOT_LEADER_OR_FOLLOWER, False),
        (Code.UNKNOWN_TOPIC_OR_PARTITION, False),
        (Code.LEADER_NOT_AVAILABLE, False),
        (Code.REPLICA_NOT_AVAILABLE, False),
        (Code.KAFKA_STORAGE_ERROR, False),
    ),
    Api.METADATA: ((Code.LEADER_NOT_AVAILABLE, False),),
    Api.OFFSET_COMMIT: (
        (Code.COORDINATOR_LOAD_IN_PROGRESS, False),
        (Code.COORDINATOR_NOT_AVAILABLE, False),
        (Code.COORDINATOR_NOT_AVAILABLE, True),
        (Code.NOT_COORDINATOR, False),
        (Code.NOT_COORDINATOR, True),
    ),
    Api.OFFSET_FETCH: (
        (Code.COORDINATOR_LOAD_IN_PROGRESS, False),
        (Code.COORDINATOR_NOT_AVAILABLE, False),
        (Code.NOT_COORDINATOR, False),
    ),
    Api.FIND_COORDINATOR: ((Code.COORDINATOR_NOT_AVAILABLE, False),),
    Api.JOIN_GROUP: (
        (Code.COORDINATOR_LOAD_IN_PROGRESS, False),
        (Code.COORDINATOR_NOT_AVAILABLE, False),
        (Code.NOT_COORDINATOR, False),
    ),
    Api.SYNC_GROUP: (
        (Code.COORDINATOR_LOAD_IN_PROGRESS, False),
        (Code.COORDINATOR_NOT_AVAILABLE, False),
        (Code.COORDINATOR_NOT_AVAILABLE, True),
        (Code.NOT_COORDINATOR, False),
    ),
    Api.HEARTBEAT: ((Code.COORDINATOR_NOT_AVAILABLE, False), (Code.NOT_COORDINATOR, False)),
    Api.LEAVE_GROUP: ((Code.COORDINATOR_NOT_AVAILABLE, False), (Code.NOT_COORDINATOR, False)),
    Api.INIT_PRODUCER_ID: ((Code.COORDINATOR_LOAD_IN_PROGRESS, False), (Code.COORDINATOR_NOT_AVAILABLE, False)),
}
"""The errors that come and go, by request, and whether the effect may have happened all the same."""


@dataclass(slots=True)
class DrawnFaults(Faults):
    """Draws what goes wrong: by `rates` of a kind of request, else by `default`, as long as `active`.

    Requests that name partitions get an error for some of them, or for all; commits for all.
    """

    rng: random.Random
    default: Rates = field(default_factory=Rates)
    rates: Mapping[Api, Rates] = field(default_factory=dict)
    refusals: Mapping[Api, tuple[tuple[Code, bool], ...]] = field(default_factory=lambda: REFUSALS)
    active: bool = True

    def __post_init__(self) -> None:
        Faults.__init__(self)

    def trouble(self, call: "Call") -> Trouble:
        """See the base."""
        planned = Faults.trouble(self, call)
        if planned is not NO_TROUBLE or not self.active or call.api is Api.API_VERSIONS:
            return planned
        rates, rng = self.rates.get(call.api, self.default), self.rng
        trouble = Trouble(
            before_s=rng.uniform(0, rates.slow_s) if rng.random() < rates.slow else 0.0,
            after_s=rng.uniform(0, rates.slow_s) if rng.random() < rates.slow_answer else 0.0,
            cut=self._cut(rates),
        )
        return trouble if trouble.cut or rng.random() >= rates.error else self._refused(call, trouble)

    def _cut(self, rates: Rates) -> Literal["", "before", "after"]:
        drawn = self.rng.random()
        if drawn < rates.cut_before:
            return "before"
        return "after" if drawn < rates.cut_before + rates.cut_after else ""

    def _refused(self, call: "Call", trouble: Trouble) -> Trouble:
        refusals = self.refusals.get(call.api, ())
        if not refusals:
            return trouble
        error, effect = self.rng.choice(refusals)
        partitions = call.partitions()
        only = frozenset(one for one in partitions if self.rng.random() < 0.5) if self.rng.random() < 0.5 else None
        if call.api is Api.OFFSET_COMMIT:  # a coordinator answers for its group, and stores a commit in one batch
            only = None
        return Trouble(trouble.before_s, trouble.after_s, "", error, effect, only or None)
