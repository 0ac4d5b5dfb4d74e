"""Runs one seed: real pipelines, a broker in memory, virtual time, and judges at every step of the loop."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

from streamproc.model import OutRecord, TopicPartition
from streamproc.testing import EPOCH
from streamproc.virtualtime import VirtualTimeLoop
from tests.simulation.facts import Counts, Violation
from tests.simulation.member import Member
from tests.simulation.scenario import TOPIC, Incident, draw
from tests.simulation.state import State
from tests.simulation.world import World

DRAINED_WITHIN_S = 120.0
STEPS_MAX = 400_000
MEMBERS_MAX = 3


class StepLoop(VirtualTimeLoop):
    """Lets the judges look after each step; raises what they find."""

    world: World | None = None
    state: State

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # there is no public hook for a step of the loop
        if self.world is not None:
            self._judge(self.world)

    def _judge(self, world: World) -> None:
        book = world.book
        book.counts.steps += 1
        if book.counts.steps > STEPS_MAX:
            book.fail("DRAINS", "the loop never comes to rest")
        for member in world.members:
            if member.over:
                continue
            self.state.look(member)
            if member.task.done() and not member.task.cancelled():
                _explain_crash(world, member)
        if book.violation is not None:
            self.world = None
            raise book.violation


def _explain_crash(world: World, member: Member) -> None:
    error = member.task.exception()
    twice = isinstance(error, AssertionError) and "settled twice" in str(error)
    world.book.fail("EXACT-SETTLE" if twice else "CRASH", f"{member} ended with {error!r}")


def simulate(seed: int, *, verbose: bool = False) -> tuple[Counts, list[str]]:
    """Returns what happened, and the story if `verbose`. Raises Violation; its notes are the seed and the story."""
    logging.disable(logging.CRITICAL)
    loop = StepLoop()
    world = World(draw(seed), lambda: EPOCH + loop.time(), verbose=verbose)
    loop.state = State(world.book)
    loop.world = world
    book = world.book
    try:
        loop.run_until_complete(_play(world))
    except Violation as violation:
        violation.add_note("\n".join([*book.told, f"replay: python -m tests.simulation --seed {seed} --verbose"]))
        raise
    finally:
        loop.world = None
        _wind_up(loop)
        _let_go(world)
        logging.disable(logging.NOTSET)
    return book.counts, book.told


def _wind_up(loop: StepLoop) -> None:
    """Ends what a violation has left running."""
    with suppress(RuntimeError):  # the loop may have been told to stop in the very step that was judged
        loop.run_until_complete(asyncio.sleep(0))
    while left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=1.0))
    loop.close()


def _let_go(world: World) -> None:
    """Empties the world: contexts of calls hold it, and the garbage collector does not look into contexts."""
    for one in (*world.members, world):
        vars(one).clear()


async def _play(world: World) -> None:
    scenario = world.scenario
    for _ in range(scenario.members):
        Member(world)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_produce(world))
        for incident in scenario.incidents:
            tasks.create_task(_cause(world, incident))
        await asyncio.sleep(scenario.faults_end)
        world.faulty = False
        world.book.tell("faults end")
    if not _alive(world):
        Member(world)
    await _settle_down(world)
    for drained in await asyncio.gather(*(member.leave() for member in _alive(world))):
        if not drained:
            world.endings.not_drained("a member without work does not end in time")
    world.endings.ended()
    await asyncio.sleep(1.0)
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        world.endings.not_drained(f"tasks are left behind: {left}")


async def _produce(world: World) -> None:
    for made in sorted(world.scenario.records, key=lambda made: made.at):
        now = world.now() - EPOCH
        if made.at > now:
            await asyncio.sleep(made.at - now)
        record = OutRecord(TOPIC, made.value, made.key, partition=made.partition)
        world.book.appended(TopicPartition(TOPIC, made.partition), made)
        world.broker.append(record)


def _alive(world: World) -> list[Member]:
    return [member for member in world.members if not (member.over or member.leaving)]


async def _cause(world: World, incident: Incident) -> None:
    await asyncio.sleep(incident.at)
    alive = _alive(world)
    if incident.what == "join" or not alive:
        if len(alive) < MEMBERS_MAX:
            world.book.counts.joins += 1
            Member(world)
        return
    member = world.rng.choice(alive)
    match incident.what:
        case "leave":
            await member.leave(incident.delay_s)
        case "kill":
            await member.kill(incident.delay_s)
        case "evict":
            await member.evict(incident.delay_s)
        case _:
            await world.group.rebalance()


async def _settle_down(world: World) -> None:
    deadline = world.now() + DRAINED_WITHIN_S
    while reasons := list(_unrest(world)):
        if world.now() > deadline:
            world.endings.not_drained("; ".join(reasons[:3]))
            return
        await asyncio.sleep(0.1)


def _unrest(world: World) -> Iterator[str]:
    """What is not at zero yet."""
    for partition, log in world.book.logs.items():
        committed = world.group.committed.get(partition, 0)
        if committed < len(log.seen):
            yield f"partition {partition.partition}: {committed} of {len(log.seen)} are committed"
    for member in _alive(world):
        snapshot = member.pipeline.snapshot()
        if snapshot.in_flight_records:
            yield f"{member} holds {snapshot.in_flight_records} records"
        for function in snapshot.functions:
            if function.waiting or function.in_flight or function.parked:
                yield f"{member}: {function.name} has work left"
