"""What scenarios are written with: a fresh world for each, trouble that lasts, and looks at what became of it."""

import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from tests.simulation.wire.call import Call
from tests.simulation.wire.faults import Faults, Rates, Trouble
from tests.simulation.wire.oracle import GROUP, TOPIC, Oracle
from tests.simulation.wire.play import World, act
from tests.simulation.wire.protocol import Api
from tests.simulation.wire.run import TOLD_LINES
from tests.simulation.wire.story import Made, Story, Write

Script = Callable[[World], Coroutine[Any, Any, None]]
STORY = Story(
    seed=0,
    theme="scripted",
    nodes=1,
    partitions=1,
    members=0,
    starting_position="trim_horizon",
    record_batches=True,
    static=False,
    commit_interval_s=0.1,
    partition_records_max=4_000,
    batch_size=5,
    history=(),
    writes=(),
    incidents=(),
    default=Rates(),
    rates={},
    ends_at=0.0,
)


class Lasting(Faults):
    """Trouble that lasts, for each request of a kind and a client (or any, ""), until it is taken out of `lasting`."""

    def __init__(self) -> None:
        super().__init__()
        self.lasting: dict[tuple[Api, str], Trouble] = {}

    def trouble(self, call: Call) -> Trouble:
        """See the base."""
        found = self.lasting.get((call.api, call.client)) or self.lasting.get((call.api, ""))
        return found or super().trouble(call)


def scenario(script: Script, **changes: Any) -> Oracle:
    """Plays a script in a fresh world until all is at rest; `changes` are those to `STORY`. Returns the oracle."""

    async def whole(world: World) -> None:
        try:
            await world.prepare()
            await script(world)
            await world.finish()
        except (AssertionError, TimeoutError) as error:
            error.add_note("\n".join(world.cluster.story(TOLD_LINES)))
            raise

    oracle, _ = act(replace(STORY, **changes), whole, random.Random(0), Lasting())
    return oracle


async def write(world: World, *fates: str, partition: int = 0, keys: Iterable[int] = (), kind: Any = "step") -> None:
    """Writes a batch with a record for each fate, all of key 0 unless `keys` says otherwise."""
    first = len(world.oracle.written)
    of = list(keys) or [0] * len(fates)
    made = [Made(first + n, kind, key, fate, 0) for n, (key, fate) in enumerate(zip(of, fates, strict=True))]
    await world.write(Write(0.0, partition, made, 0, "", 0.0))


def lasting(world: World) -> dict[tuple[Api, str], Trouble]:
    """Returns the trouble that lasts, to be changed."""
    assert isinstance(world.cluster.faults, Lasting)
    return world.cluster.faults.lasting


def committed(world: World, partition: int = 0) -> int:
    """Returns where the group stands, -1 without a commit."""
    return world.cluster.group(GROUP).offsets.get((TOPIC, partition), (-1, ""))[0]


def reads(world: World, member: int = 0) -> int:
    """Returns how many partitions a member reads."""
    pipeline = world.members[member].pipeline
    return len(pipeline.snapshot().partitions) if pipeline is not None else 0


def blocked(world: World, member: int = 0) -> tuple[str, str]:
    """Returns why a member does not read partition 0 on, and what it says is to be done; "" where it does."""
    pipeline = world.members[member].pipeline
    found = pipeline.snapshot().partitions if pipeline is not None else ()
    return next(((one.blocked, one.detail) for one in found if one.partition.partition == 0), ("", ""))


async def rest(world: World, within_s: float = 30.0) -> None:
    """Waits until all is settled, committed, and known to be. Raises AssertionError with what is not."""
    try:
        await world.until(lambda: not any(world.oracle.unrest()), within_s)
    except TimeoutError:
        raise AssertionError("; ".join(world.oracle.unrest())) from None


def answers(world: World, api: Api, client: str = "m1") -> list[str]:
    """Returns what a client was answered to its requests of a kind."""
    calls = [entry.what for entry in world.cluster.trace if isinstance(entry.what, Call)]
    return [str(call) for call in calls if call.api is api and call.client == client]
