"""Runs a scenario against a cluster in memory, in virtual time."""

import random
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any, TypeVar

from tests.simulation.wire.cluster import Cluster
from tests.simulation.wire.faults import Faults
from tests.simulation.wire.loop import WireLoop, virtual

T = TypeVar("T")
TOLD_LINES = 150


def run(
    scenario: Callable[[Cluster], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    modules: tuple[ModuleType, ...] = (),
    faults: Callable[[random.Random], Faults] | None = None,
    **cluster: Any,
) -> T:
    """Runs a scenario to its end. What it raises carries the end of the trace as a note.

    `modules` get the loop's clock in place of their `time`; `faults` is made from the run's random numbers; the rest
    are arguments of `Cluster`.
    """
    loop, rng = WireLoop(), random.Random(seed)
    made = Cluster(loop, rng, faults=faults(rng) if faults else None, **cluster)
    try:
        with virtual(loop, rng, *modules):
            try:
                return loop.run_until_complete(scenario(made))
            finally:
                loop.wind_up()
    except BaseException as error:
        error.add_note("\n".join([*made.story(TOLD_LINES), f"seed {seed}"]))
        raise
