"""Plays a story: real pipelines over real consumers and producers, against the cluster in memory, in virtual time."""

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence, Set
from contextlib import suppress
from typing import Any

from streamproc import Event, Failures, Reject, Stream
from streamproc.adapters import kafka
from streamproc.adapters.kafka import KafkaConsumer
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_producer import KafkaProducer
from streamproc.errors import BrokerError, ConfigError
from streamproc.stream.options import StreamOptions
from streamproc.stream.pipeline import Pipeline, Surroundings
from streamproc.testing import NoObserver
from tests.simulation.wire.cluster import Cluster
from tests.simulation.wire.faults import DrawnFaults, Faults
from tests.simulation.wire.log import TopicConfig
from tests.simulation.wire.loop import Process, WireLoop, virtual
from tests.simulation.wire.oracle import DEAD, GROUP, INVARIANTS, TOPIC, Oracle, Violation
from tests.simulation.wire.story import Incident, Story, Write, draw

SESSION_S, REBALANCE_S, DRAIN_S, GRACE_S = 6.0, 20.0, 3.0, 5.0
BACKOFF_MAX_S = 0.4
CALL_S = {"slow": 0.3, "stuck": 4.0}
"""How long a call takes by the fate of its record; one may be longer than a drain."""
RESTART_S = 1.0
REST_WITHIN_S = 150.0
TRANSACTION_S = 900.0
"""Longer than any run."""
STEPS_MAX = 100_000
MEMBERS_MAX = 4
GENERATIONS_MAX = 12
"""How often two members of one name may throw each other out before one has to end."""
TOLD_LINES = 120


class Step(Event, tag="step"):
    """Taken one a call."""

    uid: int
    fate: str


class Bulk(Event, tag="bulk"):
    """Taken in batches."""

    uid: int
    fate: str


class Watching(NoObserver):
    """Counts what a pipeline tells."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def topic_recreated(self, topic: str) -> None:
        self._oracle.counts["recreated"] += 1

    def rebalanced(self, drain_s: float) -> None:
        self._oracle.counts["rebalances"] += 1
        if drain_s > DRAIN_S - BACKOFF_MAX_S - 0.01:  # a retry that is due after the deadline is not waited for
            self._oracle.all_drained = False


def _now() -> float:
    """Returns seconds since 1970.

    Contexts of calls hold the clocks, and the collector does not look into contexts: these hold nothing themselves.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WireLoop)
    return loop.now()


def _tick() -> float:
    """Returns seconds, from 1 on."""
    return 1 + asyncio.get_running_loop().time()


class Member:
    """A process that runs a pipeline, and starts it again when it ends with an error that may pass."""

    def __init__(self, world: "World", name: str, instance_id: str) -> None:
        self.world = world
        self.name = name
        self.instance_id = instance_id
        self.leaving = False
        self.fatal = ""
        self.pipeline: Pipeline | None = None
        self._consumer: KafkaConsumer | None = None
        self.process: Process = world.cluster.loop.process(name)
        self._tries = 0
        self.task = self.process.start(self._live())

    @property
    def is_alive(self) -> bool:
        """Whether it works, or will."""
        return not (self.process.dead or self.leaving or self.fatal)

    async def _live(self) -> None:
        world = self.world
        while not self.leaving:
            self._tries += 1
            producer = KafkaProducer(world.options)
            self.pipeline = self._pipeline(producer)
            try:
                await producer.start()
                await self.pipeline.run()
            except ConfigError as error:
                self.fatal = str(error)
                world.cluster.tell(f"{self.name} ends: {error}")
                return
            except BrokerError as error:
                world.oracle.counts["restarts"] += 1
                world.cluster.tell(f"{self.name} ends and starts again: {error}")
            except Exception as error:
                world.oracle.fail("CRASH", f"{self.name} ended with {error!r}")
                raise
            finally:
                world.oracle.gave_up(self._call_name)
                world.oracle.counts["rereads"] += self.pipeline.snapshot().rereads
                self.pipeline = None
                await producer.stop()
            if not self.leaving:
                await asyncio.sleep(RESTART_S)

    @property
    def group_member_id(self) -> str:
        """What the group calls it."""
        membership = self._consumer._membership if self._consumer is not None else None
        return membership._coordinator.member_id if membership is not None else ""

    @property
    def _call_name(self) -> str:
        return f"{self.name}.{self._tries}"

    def _pipeline(self, producer: KafkaProducer) -> Pipeline:
        world = self.world
        options = world.options_of(self)
        consumer = self._consumer = KafkaConsumer(options, world.stream, tick=_tick)
        rewind = consumer._rewind

        def counted() -> None:
            world.oracle.counts["rewinds"] += 1
            rewind()

        consumer._rewind = counted  # type: ignore[method-assign]
        around = Surroundings(
            consumer=consumer,
            producer=producer,
            observer=Watching(world.oracle),
            services=None,
            group=GROUP,
            now=_now,
            draw=world.rng.random,
            tick=_tick,
            wall=_now,
        )
        pipeline = Pipeline(self._functions(), world.stream, around)
        sound = pipeline.assigned

        def assigned(starts: Any) -> None:
            sound(starts)
            world.oracle.assigned(self.name)
            world.oracle.counts["assignments"] += 1
            if starts and world.oracle.first_assigned == float("inf"):
                world.oracle.first_assigned = world.cluster.now()

        pipeline.assigned = assigned  # type: ignore[method-assign]
        return pipeline

    def _functions(self) -> list[Stream]:
        common: dict[str, Any] = {
            "timeout_s": 30.0,
            "max_retry_attempts": 5,
            "backoff_s": 0.05,
            "backoff_max_s": BACKOFF_MAX_S,
        }
        size = self.world.story.batch_size
        return [
            Stream(Step, self._step, concurrency=20, **common),
            Stream(Bulk, self._bulk, batch_size=size, batch_window_s=0.1, **common),
        ]

    async def _step(self, event: Step, ctx: Any) -> Reject | None:
        at, key = (ctx.topic, ctx.partition), int(ctx.key)
        oracle, name = self.world.oracle, self._call_name
        oracle.began(name, at, "step", key, event.uid, call=self.world.next_call())
        finished = False
        try:
            await asyncio.sleep(CALL_S.get(event.fate, 0.004))
            if event.fate == "flaky" and ctx.attempt < 3:
                raise OSError("flaky")
            finished = True
        finally:
            oracle.ended(name, at, "step", key, event.uid, self.world.cluster.now(), finished=finished)
        return Reject("refused") if event.fate == "reject" else None

    async def _bulk(self, events: Sequence[Bulk], ctx: Any) -> Failures | None:
        oracle, name, call = self.world.oracle, self._call_name, self.world.next_call()
        rows = [((one.topic, one.partition), int(one.key), one.attempt) for one in ctx.records]
        for event, (at, key, _) in zip(events, rows, strict=True):
            oracle.began(name, at, "bulk", key, event.uid, call=call)
        failures: dict[int, Any] = {}
        unfinished = {(at, key) for at, key, _ in rows}
        try:
            await asyncio.sleep(max(CALL_S.get(event.fate, 0.004) for event in events))
            unfinished.clear()
        finally:
            for index, (event, (at, key, attempt)) in enumerate(zip(events, rows, strict=True)):
                if event.fate == "flaky" and attempt < 3:
                    unfinished.add((at, key))
                    failures[index] = OSError("flaky")
                elif event.fate == "reject":
                    failures[index] = Reject("refused")
                # What comes after a failed record of its key is repeated with it, whatever the function says.
                finished = (at, key) not in unfinished
                oracle.ended(name, at, "bulk", key, event.uid, self.world.cluster.now(), finished=finished)
        return Failures(failures) if failures else None

    async def leave(self) -> None:
        """Ends in good order."""
        self.leaving = True
        self.world.cluster.tell(f"{self.name} leaves")
        if self.pipeline is not None:
            await self.process.start(self._stop(self.pipeline))

    async def _stop(self, pipeline: Pipeline) -> None:
        if not await pipeline.stop(GRACE_S):
            self.world.oracle.all_drained = False

    def kill(self) -> None:
        """Ends without a word."""
        self.world.cluster.tell(f"{self.name} is killed")
        self.world.oracle.gave_up(self._call_name)
        self.process.kill()


class World:
    """What a run consists of."""

    def __init__(self, story: Story, cluster: Cluster, oracle: Oracle, rng: random.Random) -> None:
        self.story = story
        self.cluster = cluster
        self.oracle = oracle
        self.rng = rng
        self.members: list[Member] = []
        self._calls = 0
        self.options = KafkaOptions(
            bootstrap_servers=cluster.bootstrap,
            group_id=GROUP,
            session_timeout_s=SESSION_S,
            rebalance_timeout_s=REBALANCE_S,
            metadata_age_max_s=2.0,
            record_batches=story.record_batches,
        )
        self.stream = StreamOptions(
            topics=[TOPIC],
            format="json",
            starting_position=story.starting_position,
            tombstones="ignore",
            commit_interval_s=story.commit_interval_s,
            commit_timeout_s=5.0,
            drain_s=DRAIN_S,
            partition_records_max=story.partition_records_max,
        )

    def next_call(self) -> int:
        """Returns the number of a new call of a function."""
        self._calls += 1
        return self._calls

    def options_of(self, member: Member) -> KafkaOptions:
        """The options of a member."""
        from msgspec.structs import replace

        return replace(self.options, instance_id=member.instance_id)

    def topic_id(self, name: str) -> bytes | None:
        """The id of the topic that has a name now."""
        topic = self.cluster.topics.get(name)
        return topic.id if topic is not None else None

    def alive(self) -> list[Member]:
        """Members that work."""
        return [member for member in self.members if member.is_alive]

    def awake(self) -> list[Member]:
        """Members that work and are not frozen."""
        return [member for member in self.alive() if not member.process.frozen]

    def join(self) -> None:
        """Starts a member."""
        name = f"m{len(self.members) + 1}"
        self.oracle.first_member = min(self.oracle.first_member, self.cluster.now())
        self.oracle.counts["joins"] += 1
        self.cluster.tell(f"{name} joins")
        self.members.append(Member(self, name, name if self.story.static else ""))

    def stopped(self) -> set[int]:
        """Partitions whose offset is gone from the log; somebody must say where they go on."""
        offsets = self.cluster.group(GROUP).offsets
        partitions = self.cluster.topics[TOPIC].partitions if TOPIC in self.cluster.topics else []
        return {one.number for one in partitions if offsets.get(one.at, (one.log.start, ""))[0] < one.log.start}

    def backlogs(self) -> Iterator[str]:
        """What members think is left to do, though nothing is; and what stands without a word."""
        stopped = self.stopped()
        for member in self.alive():
            if member.pipeline is None:
                yield f"{member.name} does not run"
                continue
            ends = member.pipeline.end_offsets()
            for one in member.pipeline.snapshot().partitions:
                end = ends.get(one.partition)
                if one.partition.partition in stopped:
                    if one.blocked != "offset_out_of_range":
                        yield f"{member.name} does not say that {one.partition} stands"
                elif end is None or end != one.done:
                    yield f"{member.name} sees {one.partition.partition} done to {one.done} of {end}"

    async def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Waits for a condition. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.05)

    # what happens

    async def play(self) -> None:
        """Everything, then the end of all faults, then rest."""
        await self.prepare()
        for _ in range(self.story.members):
            self.join()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_all())
            for incident in self.story.incidents:
                tasks.create_task(self._cause(incident))
            await asyncio.sleep(self.story.ends_at)
        await self.finish()

    async def prepare(self) -> None:
        """Makes the topics, and writes what was there before the group."""
        self.make_topic(self.story.partitions)
        self.cluster.create_topic(DEAD, 2)
        for write in self.story.history:
            await self.write(write)
        await asyncio.sleep(0.5)

    def make_topic(self, partitions: int) -> None:
        """Makes the topic that is read; records may have any time."""
        self.cluster.create_topic(TOPIC, partitions, TopicConfig(ahead_ms_max=2**62))

    async def finish(self) -> None:
        """Ends the faults, waits for rest, and lets all leave."""
        self._end_faults()
        await self._rest()
        for member in self.alive():
            await member.leave()
        self.cluster.expire()
        await asyncio.sleep(1.0)
        if self.oracle.violation is None:
            self.oracle.final()

    def _end_faults(self) -> None:
        self.cluster.tell("faults end")
        if isinstance(self.cluster.faults, DrawnFaults):
            self.cluster.faults.active = False
        for number, node in self.cluster.nodes.items():
            if not node.up:
                self.cluster.start_node(number)
        if TOPIC not in self.cluster.topics:
            self.make_topic(self.story.partitions)
        for member in self.members:
            if member.process.frozen and not member.process.dead:
                member.process.thaw()
        if not self.alive():
            self.join()

    async def _rest(self) -> None:
        deadline = self.cluster.now() + REST_WITHIN_S
        while reasons := list(self.oracle.unrest()):
            if self.cluster.now() > deadline:
                lost = next((reason for reason in reasons if "is not settled" in reason), "")
                self.oracle.fail("L" if lost and self._is_quiet() else "DRAINS", lost or "; ".join(reasons[:3]))
                return
            await asyncio.sleep(0.5)

    def _is_quiet(self) -> bool:
        """Whether nobody has anything left to do: what is not settled then is lost."""
        pipelines = [member.pipeline for member in self.alive() if member.pipeline is not None]
        return bool(pipelines) and not any(pipeline.snapshot().in_flight_records for pipeline in pipelines)

    async def _write_all(self) -> None:
        began = self.cluster.now()
        for write in self.story.writes:
            await asyncio.sleep(max(0.0, began + write.at - self.cluster.now()))
            await self.write(write)

    async def write(self, write: Write) -> None:
        """Writes a batch; nothing while there is no topic."""
        topic = self.cluster.topics.get(TOPIC)
        if topic is None:
            return
        partition = write.partition % len(topic.partitions)
        values = [made.value() for made in write.records]
        keys = [b"%d" % made.key for made in write.records]
        stamp = self.cluster.now_ms() + write.records[0].shift_ms
        if not write.end:
            base = self.cluster.append(TOPIC, partition, values, keys=keys, timestamp=stamp, codec=write.codec)
            self._wrote(write, topic.id, partition, base, visible=True)
            return
        transaction = self.cluster.transaction(f"tx-{write.records[0].uid}", TRANSACTION_S)
        base = transaction.append(TOPIC, partition, values, keys=keys)
        self._wrote(write, topic.id, partition, base, visible=False)
        if write.end == "hang":
            self.oracle.counts["transactions left open"] += 1
        else:
            self.cluster.later(write.open_s, lambda: self._end_transaction(write, transaction))

    def _wrote(self, write: Write, topic: bytes, partition: int, base: int, *, visible: bool) -> None:
        for number, made in enumerate(write.records):
            self.oracle.wrote(made, topic, partition, base + number, self.cluster.now(), visible=visible)

    def _end_transaction(self, write: Write, transaction: Any) -> None:
        self.oracle.counts["transactions"] += 1
        commits = write.end == "commit"
        if commits:
            for made in write.records:
                self.oracle.written[made.uid].visible = True
        if commits:
            transaction.commit()
        else:
            transaction.abort()

    async def _cause(self, incident: Incident) -> None:
        await asyncio.sleep(incident.at)
        self.oracle.counts[incident.what] += 1
        cause = getattr(self, "_" + incident.what.replace(" ", "_"))
        await cause(incident.lasts_s)

    async def _join(self, _: float) -> None:
        if len(self.alive()) < MEMBERS_MAX:
            self.join()

    async def _leave(self, _: float) -> None:
        if awake := self.awake():
            await self.rng.choice(awake).leave()

    async def _kill(self, _: float) -> None:
        if awake := self.awake():
            self.rng.choice(awake).kill()

    async def _freeze(self, lasts_s: float) -> None:
        if awake := self.awake():
            member = self.rng.choice(awake)
            self.cluster.tell(f"{member.name} is frozen for {lasts_s} s")
            member.process.freeze()
            await asyncio.sleep(lasts_s)
            if not member.process.dead:
                self.cluster.tell(f"{member.name} is thawed")
                member.process.thaw()

    async def _namesake(self, _: float) -> None:
        name = f"m{len(self.members) + 1}"
        self.cluster.tell(f"{name} joins under the name of {self.members[0].instance_id}")
        self.members.append(Member(self, name, self.members[0].instance_id))
        generation = self.cluster.group(GROUP).generation
        while len(self.alive()) > 1 and self.cluster.group(GROUP).generation < generation + GENERATIONS_MAX:
            await asyncio.sleep(0.1)
        if len(self.alive()) > 1:
            self.oracle.fail("DRAINS", "two members of one name throw each other out without end")
        await asyncio.sleep(SESSION_S)
        if not self.alive():
            self.oracle.fail("DRAINS", "both members of one name have ended")

    async def _move_coordinator(self, lasts_s: float) -> None:
        nodes = self.cluster.alive
        self.cluster.move_coordinator(GROUP, self.rng.choice(nodes) if nodes else -1, load_s=lasts_s / 4)

    async def _move_leader(self, lasts_s: float) -> None:
        if self.cluster.alive:
            at = (TOPIC, self.rng.randrange(self.story.partitions))
            self.cluster.move_leader(at, self.rng.choice(self.cluster.alive), told_after_s=lasts_s / 4)

    async def _cut(self, _: float) -> None:
        self.cluster.tell("all connections are cut")
        self.cluster.network.cut()

    async def _stop_node(self, lasts_s: float) -> None:
        if len(self.cluster.alive) > 1 or self.story.nodes == 1:
            number = self.rng.choice(self.cluster.alive) if self.cluster.alive else 0
            if number:
                self.cluster.stop_node(number)
                await asyncio.sleep(lasts_s)
                if not self.cluster.nodes[number].up:
                    self.cluster.start_node(number)

    async def _grow(self, _: float) -> None:
        if TOPIC in self.cluster.topics:
            self.cluster.grow_topic(TOPIC, len(self.cluster.topics[TOPIC].partitions) + 1)

    async def _make_anew(self, lasts_s: float) -> None:
        topic = self.cluster.topics.get(TOPIC)
        if topic is None:
            return
        self.cluster.delete_topic(TOPIC)
        await asyncio.sleep(lasts_s / 4 if self.rng.random() < 0.5 else 0.0)
        if TOPIC not in self.cluster.topics:
            self.make_topic(len(topic.partitions))

    async def _trim(self, _: float) -> None:
        """Retention takes what the group has committed."""
        for at, (offset, _) in list(self.cluster.group(GROUP).offsets.items()):
            if at[0] == TOPIC and self.cluster.partition(at) is not None:
                self._trim_to(at, offset)

    async def _trim_too_far(self, _: float) -> None:
        """Retention passes the group in one partition."""
        if TOPIC in self.cluster.topics:
            at = (TOPIC, self.rng.randrange(len(self.cluster.topics[TOPIC].partitions)))
            self._trim_to(at, self.cluster.log(*at).end - self.rng.randint(0, 3))

    def _trim_to(self, at: Any, offset: int) -> None:
        self.cluster.trim(at, offset)
        self._lose(at, lambda one: one.offset < self.cluster.log(*at).start)

    def _lose(self, at: Any, is_gone: Any) -> None:
        topic = self.topic_id(at[0])
        assert topic is not None
        gone = [
            one for one in self.oracle.written.values() if (one.topic, one.partition) == (topic, at[1]) and is_gone(one)
        ]
        self.oracle.lost.update((topic, at[1], one.offset) for one in gone)

    async def _compact(self, _: float) -> None:
        if TOPIC in self.cluster.topics:
            at = (TOPIC, self.rng.randrange(len(self.cluster.topics[TOPIC].partitions)))
            log = self.cluster.log(*at)
            offsets = [record.offset for record in log.records()]  # the last lies in the active segment, and stays
            drawn = [offset for offset in offsets if self.rng.random() < 0.3 and offset != offsets[-1]]
            self.cluster.compact(at, drawn, keep_empty=self.rng.random() < 0.5)
            left = {record.offset for record in log.records()}
            self._lose(at, lambda one: one.offset not in left)


def play(seed: int, judges: Set[str] = INVARIANTS) -> tuple[Oracle, list[str]]:
    """Plays a seed; returns the oracle and the trace. Raises Violation, whose note is the end of the trace."""
    story, rng = draw(seed), random.Random(seed + 1)
    replay = f"{story.theme} seed; replay: python -m tests.simulation.wire --seed {seed} --verbose"
    return act(story, World.play, rng, DrawnFaults(rng, story.default, story.rates), judges=judges, note=replay)


def act(
    story: Story,
    script: Callable[[World], Coroutine[Any, Any, None]],
    rng: random.Random,
    faults: Faults,
    *,
    judges: Set[str] = INVARIANTS,
    note: str = "",
) -> tuple[Oracle, list[str]]:
    """Runs a script in a world. See `play`."""
    logging.disable(logging.CRITICAL)
    loop, oracle = WireLoop(), Oracle(judges)
    cluster = Cluster(loop, rng, nodes=story.nodes, faults=faults, watcher=oracle)
    world = World(story, cluster, oracle, rng)
    oracle.world = world

    raised: list[BaseException] = []
    """What ends the run whoever judges it: an interrupt, which the loop would take for the error of a callback."""

    def judge() -> None:
        oracle.counts["steps"] += 1
        if oracle.counts["steps"] > STEPS_MAX:
            raised.append(Violation("DRAINS", "the loop never comes to rest"))
        error = raised[0] if raised else oracle.violation
        if error is not None:
            loop.after_step = None
            raise error

    def broken(_: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, Exception):
            raised.append(error)
        elif "future" not in context and error is not None:
            oracle.fail("CRASH", f"{context['message']}: {error!r}")

    loop.after_step = judge
    loop.set_exception_handler(broken)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # coroutines of processes that were killed
    try:
        with virtual(loop, rng, kafka):
            try:
                loop.run_until_complete(script(world))
                if oracle.violation is not None:
                    raise oracle.violation
            finally:
                with suppress(Exception):
                    loop.wind_up()
    except* Violation as group:
        violation = _first(group)
        violation.add_note("\n".join([*map(str, cluster.story(TOLD_LINES)), note]))
        raise violation from None
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
    return oracle, cluster.story()


def attempt(seed: int) -> tuple[int, Counter[str], str]:
    """Plays a seed. Returns what happened, and what was violated."""
    try:
        oracle, _ = play(seed)
    except Violation as violation:
        return seed, Counter(), str(violation)
    return seed, oracle.counts, ""


def _first(group: BaseExceptionGroup[Violation]) -> Violation:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
