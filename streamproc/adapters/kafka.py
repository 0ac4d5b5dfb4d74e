"""The Consumer port over aiokafka. The client's errors and quirks are translated here and nowhere else.

    joined -> open: where does each partition start? -> seek, tell the engine -> poll

Between the client's assignment and ours lies a request. Until a partition is opened nothing of it is polled, and what
a poll took of an assignment that ended meanwhile is read again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from time import perf_counter
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.abc import ConsumerRebalanceListener

from streamproc.adapters.kafka_batches import install, merge, past, prepare, size_of
from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.adapters.kafka_group import ID, Membership, Theirs
from streamproc.adapters.kafka_inflate import limit_inflation
from streamproc.errors import BrokerError, ConfigError, StreamprocError
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition
from streamproc.ports import RebalanceListener
from streamproc.stream.options import StreamOptions

log = logging.getLogger(__name__)

MERGED_RECORDS_MIN = 1_000
STOP_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 40.0
TOPICS_WITHIN_S = 5.0
"""How long a topic may take to be known to all brokers after it was made."""
LOOK_S = 1.0
ENDS_S = 5.0
"""How often the end of a partition is asked for that is not being read."""
UNHEARD_S = 10.0
"""When a commit that went unanswered is taken to have reached the broker, if ever."""
OPEN_AGAIN_S, OPEN_AGAIN_MAX_S = 0.05, 2.0
RECORDS_MAX = 500
"""What a poll record by record takes at most; how large they are is known afterwards."""
_NOWHERE = aiokafka.TopicPartition("", -1)
"""Polled when no partition is wanted: a member that does not poll is thrown out of its group."""


class KafkaConsumer:
    """A member of a consumer group on a Kafka broker. Commits are explicit, positions never reset by themselves.

    `with_keys` says that the records' keys will be asked for; without it each is read when it is. `tick` counts
    seconds and times the member's session.
    """

    def __init__(
        self,
        options: KafkaOptions,
        stream: StreamOptions,
        *,
        member: str = "",
        with_keys: bool = True,
        tick: Callable[[], float] = perf_counter,
    ) -> None:
        self._options = options
        self._stream = stream
        self._instance = f"{options.instance_id}-{member}" if options.instance_id and member else options.instance_id
        self._with_keys = with_keys
        self._tick = tick
        self._failure: StreamprocError | None = None
        self._membership: Membership | None = None
        self._theirs: dict[TopicPartition, Theirs] = {}
        self._assignments = 0
        self._next: dict[TopicPartition, int] = {}
        self._asked: Sequence[Theirs] = ()
        self._suspects: deque[Theirs] = deque()
        self._largest = options.partition_fetch_bytes_max
        self._ends: dict[TopicPartition, tuple[int, float]] = {}
        self._unseen: list[str] = []
        self._is_open = False
        self._unopened = ""
        self._ids: dict[str, str] = {}
        self._recreated: set[str] = set()
        self._committing = asyncio.Lock()
        self._committed: dict[TopicPartition, int] = {}
        self._again: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._choosing = asyncio.Lock()
        self._chosen: tuple[int, dict[Theirs, int]] = (-1, {})
        """A generation, and the first starts that this member has chosen as its leader."""

    async def start(self, listener: RebalanceListener) -> None:
        """See the port."""
        self._listener = listener
        limit_inflation(self._options.inflated_bytes_max)
        self._client = aiokafka.AIOKafkaConsumer(**client_options(self._options), **self._consumer_options())
        try:
            await self._client.start()
            await self._check_topics()
        except errors.KafkaError as error:
            await self.stop()
            raise unreachable(self._options, error) from None
        except BaseException:
            await self.stop()
            raise
        is_known = install(self._client, with_keys=self._with_keys) if self._options.record_batches else False
        self._read = self._read_batches if is_known else self._read_records
        if self._options.record_batches and not is_known:
            log.warning("aiokafka %s is not known: reading record by record, which is slower", aiokafka.__version__)
        self._membership = Membership(
            self._client,
            instance_id=self._instance,
            session_s=self._options.session_timeout_s,
            tick=self._tick,
            fenced=self.fail,
        )
        self._in_background(self._watch())
        self._client.subscribe(self._stream.topics, listener=_Listener(self))

    def _consumer_options(self) -> dict[str, Any]:
        options, stream = self._options, self._stream
        return {
            "group_id": options.group_id,
            "group_instance_id": self._instance or None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": options.isolation_level,
            "session_timeout_ms": int(options.session_timeout_s * 1000),
            "heartbeat_interval_ms": int(options.heartbeat_interval_s * 1000),
            # A member waits for its next assignment as long as others take to give theirs up.
            "request_timeout_ms": int(1000 * max(REQUEST_TIMEOUT_S, stream.drain_s + stream.commit_timeout_s + 10)),
            "rebalance_timeout_ms": int(options.rebalance_timeout_s * 1000),
            "max_poll_interval_ms": int(options.poll_interval_max_s * 1000),
            "fetch_max_bytes": options.fetch_bytes_max,
            "max_partition_fetch_bytes": options.partition_fetch_bytes_max,
        }

    async def _check_topics(self) -> None:
        missing = set(self._stream.topics)
        with suppress(TimeoutError):
            async with asyncio.timeout(TOPICS_WITHIN_S):
                while missing := missing - await self._client.topics():
                    await asyncio.sleep(LOOK_S / 4)
        if missing:
            raise BrokerError(f"no such topic on the broker: {', '.join(sorted(missing))}; create it first")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def poll(
        self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
    ) -> Sequence[RecordBatch | PartitionStopped]:
        """See the port."""
        if self._failure is not None:
            raise self._failure
        assignment = self._assignments
        self._asked = [self._theirs[one] for one in partitions if one in self._next] or [_NOWHERE]
        polled: Sequence[RecordBatch | PartitionStopped]
        try:
            polled = await self._read(self._asked, timeout_s, max_bytes)
        except errors.KafkaError as error:
            if self._failure is not None:
                raise self._failure from error
            self._rewind()  # what others gave to the same call went with the error
            polled = self._stopped(error)
        if assignment != self._assignments:
            self._rewind()
            return []
        for item in polled:
            if isinstance(item, RecordBatch):
                self._next[item.partition] = item.next_offset
        return polled

    async def _read_batches(
        self, wanted: Sequence[Theirs], timeout_s: float, max_bytes: int
    ) -> list[RecordBatch | PartitionStopped]:
        prepare(self._client, wanted, max_bytes=max_bytes, now=self._tick())
        found = await self._client.getmany(*wanted, timeout_ms=int(timeout_s * 1000))
        return [item for items in found.values() for item in merge(items, MERGED_RECORDS_MIN)]

    async def _read_records(
        self, wanted: Sequence[Theirs], timeout_s: float, max_bytes: int
    ) -> list[RecordBatch | PartitionStopped]:
        if self._suspects:
            return await self._read_suspect(self._suspects.popleft(), timeout_s)
        most = max(1, min(RECORDS_MAX, max_bytes // self._largest))
        try:
            found = await self._client.getmany(*wanted, timeout_ms=int(timeout_s * 1000), max_records=most)
        except Exception as error:
            if isinstance(error, errors.KafkaError) and not isinstance(error, errors.CorruptRecordException):
                raise
            self._rewind()  # the error does not name its partition: each is read by itself until it comes again
            self._suspects = deque(wanted)
            return []
        self._largest = max((size_of([record]) for records in found.values() for record in records), default=1_024)
        batches = (self._batch_of(one, found.get(one, ())) for one in wanted)
        return [batch for batch in batches if batch is not None]

    async def _read_suspect(self, one: Theirs, timeout_s: float) -> list[RecordBatch | PartitionStopped]:
        partition = TopicPartition(*one)
        try:
            found = await self._client.getmany(one, timeout_ms=int(max(1.0, timeout_s) * 1000), max_records=1)
        except Exception as error:
            if isinstance(error, errors.KafkaError) and not isinstance(error, errors.CorruptRecordException):
                raise
            self._rewind()
            offset = self._next[partition]
            what = f"the batch at offset {offset} or after it: {type(error).__name__}: {error}"
            return [PartitionStopped(partition, "unreadable_batch", past(partition, offset, what))]
        batch = self._batch_of(one, found.get(one, ()))
        return [] if batch is None else [batch]

    def _batch_of(self, one: Theirs, records: Sequence[Any]) -> RecordBatch | None:
        """What came of a partition, up to where the client stands: transaction markers have offsets, too."""
        partition = TopicPartition(*one)
        state, start = self._state(one), self._next.get(partition)
        if state is None or start is None or not state.has_valid_position or state.position == start:
            return None
        return RecordBatch(partition, records, start=start, next_offset=state.position, nbytes=size_of(records))

    def _state(self, one: Theirs) -> Any:
        subscription = self._client._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        return None if assignment is None else assignment.state_value(one)

    def _rewind(self) -> None:
        """Sends the client back to where the last poll's batches ended."""
        for partition, offset in self._next.items():
            if self._state(self._theirs[partition]) is not None:
                self._client.seek(self._theirs[partition], offset)

    def _stopped(self, error: errors.KafkaError) -> Sequence[PartitionStopped]:
        match error:
            case errors.NoOffsetForPartitionError():  # the partition is about to be opened
                return []
            case errors.OffsetOutOfRangeError():
                return [_gone(TopicPartition(*one), offset) for one, offset in error.args[0].items()]
            case errors.RecordTooLargeError():
                partition, offset = TopicPartition(*error.args[1]), error.args[2]
                what = f"the record at offset {offset} is larger than kafka.partition_fetch_bytes_max"
                return [PartitionStopped(partition, "oversized_record", past(partition, offset, what))]
            case errors.TopicAuthorizationFailedError():
                denied = [_denied(partition) for partition in self._next if partition.topic in _names(error)]
                if denied:
                    return denied
            case errors.InvalidSessionTimeoutError():
                raise ConfigError(
                    f"kafka.session_timeout_s = {self._options.session_timeout_s:g}: the broker takes it from its"
                    " group.min.session.timeout.ms to its group.max.session.timeout.ms"
                ) from error
            case errors.GroupAuthorizationFailedError():
                raise unreachable(self._options, error) from error
        raise BrokerError(f"the group cannot go on: {type(error).__name__}: {error}") from error

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        if partition in self._next and self._state(self._theirs[partition]) is not None:
            self._client.seek(self._theirs[partition], offset)
            self._next[partition] = offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port."""
        if self._again is not None:  # whose offsets may be older, and which must not hold these up
            self._again.cancel()
        async with self._committing:
            await self._commit(offsets)
            self._committed.update(offsets)

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            await self._client.commit(
                {
                    self._theirs[partition]: (offset, self._metadata(partition.topic))
                    for partition, offset in offsets.items()
                }
            )
        except (errors.KafkaError, KeyError) as error:
            raise BrokerError(type(error).__name__) from error

    async def _commit_again(self) -> None:
        """Commits anew what was committed: a commit whose answer was lost may reach the broker after a later one."""
        assert self._membership is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stream.commit_timeout_s), self._committing:
                self._membership.unheard_at = 0.0
                try:
                    if self._committed:
                        await self._commit(self._committed)
                except BrokerError:
                    self._membership.unheard_at = self._tick()

    def _metadata(self, topic: str) -> str:
        topic_id = self._ids.get(topic)
        return ID + topic_id if topic_id else ""

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        found = {}
        for partition, one in self._theirs.items():
            asked, fetched = self._ends.get(partition), self._fetched(one)
            newest = max((end for end in (asked, fetched) if end is not None), key=lambda end: end[1], default=None)
            if newest is not None:
                found[partition] = newest[0]
        return found

    def _fetched(self, one: Theirs) -> tuple[int, float] | None:
        """The end of a partition as its last fetch told it, and when that was, in seconds since the epoch."""
        state = self._state(one)
        if state is None or state.timestamp is None:
            return None
        end = state.lso if self._options.isolation_level == "read_committed" else state.highwater
        return None if end is None or end < 0 else (end, state.timestamp / 1000)

    def silent_s(self) -> float:
        """See the port."""
        heard = [end[1] for end in map(self._fetched, self._asked) if end is not None]
        held = self.held_until()  # past it nothing is polled, and nothing heard but heartbeats
        silences = [time.time() - max(heard)] if heard else []
        silences += [self._tick() - (held - self._options.session_timeout_s)] if held else []
        return max(0.0, min(silences, default=0.0))

    def trouble(self) -> str:
        """See the port."""
        if self._unseen:
            return f"topic {', '.join(self._unseen)} is gone, or this user may not see it"
        return f"it is not known yet where to read from: {self._unopened}" if self._unopened else ""

    def held_until(self) -> float:
        """See the port."""
        return self._membership.held_until if self._membership is not None else 0.0

    async def stop(self) -> None:
        """See the port."""
        for task in list(self._tasks):
            task.cancel()
        stopping = asyncio.ensure_future(self._client.stop())
        with suppress(errors.KafkaError):
            done, _ = await asyncio.wait([stopping], timeout=STOP_TIMEOUT_S)
            if not done:
                log.warning("the Kafka consumer did not stop within %g s and is left behind", STOP_TIMEOUT_S)
            for task in done:
                if not task.cancelled():  # aiokafka takes the end of its own tasks for one while Kafka is gone
                    task.result()

    async def revoked(self, partitions: Collection[Theirs]) -> None:
        """Hands a revocation on; called by the client's listener."""
        self._assignments += 1
        for task in (self._opening, self._again):
            if task is not None:
                task.cancel()
        if partitions:
            await self._listener.revoked([TopicPartition(*one) for one in partitions])
        self._theirs, self._next, self._ends, self._committed = {}, {}, {}, {}
        self._suspects.clear()

    def assigned(self, partitions: Collection[Theirs]) -> None:
        """Begins to open what was assigned; called by the client's listener, which must not wait.

        While it runs no heartbeats are sent.
        """
        self._assignments += 1
        self._theirs = {TopicPartition(*one): one for one in partitions}
        self._next = {}
        self._is_open = False
        self._opening = self._in_background(self._open())

    async def _open(self) -> None:
        """Settles where each partition of an assignment is read from; cancelled when the assignment ends."""
        assert self._membership is not None
        if self._membership.succeeds_leader:  # to join once more makes it the leader in name as well
            self._membership.rejoin()
            return
        pending, led, generation = set(self._theirs.values()), self._membership.leads(), self._membership.generation
        again_s, self._unopened = OPEN_AGAIN_S, ""
        while pending or led:
            starts: dict[Theirs, int] = {}
            try:
                starts, refused = await self._starts(pending, led, generation, is_reading=bool(self._next))
                led, problem = frozenset(), "; ".join(sorted({f"{error}" for error in refused.values()}))
            except errors.KafkaError as error:
                problem = f"{type(error).__name__}: {error}"
            self._begin(starts)
            pending -= starts.keys()
            if problem and problem != self._unopened:
                log.warning("cannot tell yet where to read %d partitions from: %s", len(pending), problem)
            self._unopened = problem if pending else ""
            if pending or led:
                await asyncio.sleep(again_s)
                again_s = min(OPEN_AGAIN_MAX_S, 2 * again_s)
        self._is_open = True

    async def _starts(
        self,
        pending: Set[Theirs],
        led: Set[str],
        generation: int,
        *,
        is_reading: bool,
    ) -> tuple[dict[Theirs, int], dict[Theirs, Exception]]:
        """Returns where the pending partitions start, as far as it is known, and the errors of those that tell none.

        A partition starts at the group's commit. The first start is committed as well, by the leader of the group for
        all partitions at once: so no commit means a partition that came later, whoever owns it and whatever was read.
        What was chosen is committed again as it was: an attempt that seemed to fail may still take effect. One task at
        a time asks, chooses and commits, or a start could be chosen that another task has just committed.
        """
        async with self._choosing:
            return await self._ask_or_choose(pending, led, generation, is_reading=is_reading)

    async def _ask_or_choose(
        self, pending: Set[Theirs], led: Set[str], generation: int, *, is_reading: bool
    ) -> tuple[dict[Theirs, int], dict[Theirs, Exception]]:
        assert self._membership is not None
        if self._chosen[0] != generation:
            self._chosen = (generation, {})
        _, chosen = self._chosen
        asked = {*pending, *self._partitions_of(led)}
        committed, refused = await self._membership.committed(asked)
        ids = await self._membership.topic_ids({one.topic for one in asked})
        if is_reading and self._have_changed(ids):  # what is read and committed now is of the old topic: begin anew
            self._membership.rejoin()
            return {}, {}
        self._note_ids(ids)
        anew = [
            one for one, (_, metadata) in committed.items() if one in pending and self._is_of_another(one, metadata)
        ]
        starts = {one: offset for one, (offset, _) in committed.items() if one in pending}
        if anew:
            self._tell_recreated({one.topic for one in anew} - self._recreated)
            begins = await self._client.beginning_offsets(anew)
            await self._membership.commit(begins, self._metadata, generation=generation)
            starts.update(begins)
        missing = [one for one in asked if one.topic in led and one not in committed and one not in refused]
        if missing:
            new = [one for one in missing if one not in chosen]
            if new:
                chosen |= await self._first_starts(new, {one.topic for one in committed} | self._recreated)
            first = {one: chosen[one] for one in missing}
            await self._membership.commit(first, self._metadata, generation=generation)
            starts.update((one, offset) for one, offset in first.items() if one in pending)
        return starts, refused

    def _partitions_of(self, topics: Set[str]) -> Iterator[Theirs]:
        for topic in topics:
            for number in self._client.partitions_for_topic(topic) or ():
                yield aiokafka.TopicPartition(topic, number)

    async def _first_starts(self, partitions: Sequence[Theirs], known: Set[str]) -> dict[Theirs, int]:
        """Chooses where partitions without a commit begin; those of topics that the group knows at their beginning."""
        position = self._stream.starting_position
        new = [one for one in partitions if one.topic not in known and position != "trim_horizon"]
        starts: dict[Theirs, int] = {}
        if new and position == "at_timestamp":
            assert self._stream.starting_timestamp is not None
            stamp = int(self._stream.starting_timestamp.timestamp() * 1000)
            found = await self._client.offsets_for_times(dict.fromkeys(new, stamp))
            starts = {one: at.offset for one, at in found.items() if at is not None}
        if ends := [one for one in new if one not in starts]:
            starts.update(await self._client.end_offsets(ends))
        if begins := [one for one in partitions if one not in starts]:
            starts.update(await self._client.beginning_offsets(begins))
        return starts

    def _begin(self, starts: Mapping[Theirs, int]) -> None:
        for one, offset in starts.items():
            self._client.seek(one, offset)
            self._next[TopicPartition(*one)] = offset
        if starts:
            self._listener.assigned({TopicPartition(*one): offset for one, offset in starts.items()})

    def _is_of_another(self, one: Theirs, metadata: str) -> bool:
        """Whether a commit is of a topic that had the same name."""
        topic_id = self._ids.get(one.topic)
        return metadata.startswith(ID) and topic_id is not None and metadata != ID + topic_id

    def _have_changed(self, ids: Mapping[str, str]) -> bool:
        return any(self._ids.get(topic, one) != one for topic, one in ids.items())

    def _note_ids(self, ids: Mapping[str, str]) -> None:
        self._tell_recreated({topic for topic, one in ids.items() if self._ids.get(topic, one) != one})
        self._ids.update(ids)

    def _tell_recreated(self, topics: Collection[str]) -> None:
        for topic in topics:
            log.warning("topic %s was deleted and made anew: it is read from its beginning", topic)
            self._recreated.add(topic)
            self._listener.recreated(topic)

    async def _watch(self) -> None:
        """Looks after what no poll tells: topics that come and go, and the ends of partitions that are not read."""
        ends_at = ids_at = 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            self._check_client()
            now = self._tick()
            if not self._theirs:
                self._client._client.force_metadata_update()
            unseen = [topic for topic in self._stream.topics if not self._client.partitions_for_topic(topic)]
            if unseen != self._unseen:
                log.warning("topics that are gone, or that this user may not see: %s", ", ".join(unseen) or "none now")
                self._unseen = unseen
            if self._membership is not None and 0 < self._membership.unheard_at < now - UNHEARD_S:
                self._again = self._in_background(self._commit_again())
            with suppress(errors.KafkaError, TimeoutError):
                if now >= ends_at:
                    ends_at = now + ENDS_S
                    await self._ask_for_ends()
                if now >= ids_at:
                    ids_at = now + self._options.metadata_age_max_s
                    await self._look_for_other_topics()

    def _check_client(self) -> None:
        """Raises BrokerError when a task that the client lives by has ended, of which it tells nobody."""
        client = self._client
        for task in (client._client._sync_task, client._fetcher._fetch_task):
            if task.done():
                error = None if task.cancelled() else task.exception()
                raise BrokerError(f"the Kafka client broke: {error!r} ended {task.get_coro().__name__}")

    async def _ask_for_ends(self) -> None:
        heard = time.time()
        fetched = {one: self._fetched(one) for one in self._theirs.values()}
        stale = [one for one, end in fetched.items() if end is None or heard - end[1] > ENDS_S]
        for topic in sorted({one.topic for one in stale}):
            with suppress(errors.KafkaError):
                async with asyncio.timeout(ENDS_S):
                    ends = await self._client.end_offsets([one for one in stale if one.topic == topic])
                self._ends.update((TopicPartition(*one), (end, heard)) for one, end in ends.items())

    async def _look_for_other_topics(self) -> None:
        """Asks for a rebalance where a topic was made anew; as the leader, sees to it that all partitions have starts.

        What was done of the old topic is committed as its own before all is opened anew.
        """
        assert self._membership is not None
        led, generation = self._membership.leads(), self._membership.generation
        ids = await self._membership.topic_ids({*led, *(one.topic for one in self._theirs.values())})
        if self._have_changed(ids):
            self._membership.rejoin()
        elif led and self._is_open:
            await self._starts(frozenset(), led, generation, is_reading=True)

    def fail(self, error: BaseException) -> None:
        """Makes the poll that waits raise, or the next one: aiokafka only logs what its listener raises."""
        self._failure = error if isinstance(error, StreamprocError) else BrokerError(f"{type(error).__name__}: {error}")
        self._client._subscription.abort_waiters(errors.KafkaError("it cannot go on"))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[Theirs]) -> None:
        try:
            await self._consumer.revoked(revoked)
        except Exception as error:
            self._consumer.fail(error)
            raise

    def on_partitions_assigned(self, assigned: Collection[Theirs]) -> None:
        try:
            self._consumer.assigned(assigned)
        except Exception as error:
            self._consumer.fail(error)
            raise


def _names(error: errors.KafkaError) -> Set[str]:
    """The topics that an error names."""
    named = error.args[0] if error.args else ()
    return {named} if isinstance(named, str) else set(named)


def _gone(partition: TopicPartition, offset: int) -> PartitionStopped:
    topic, number = partition
    detail = (
        f"offset {offset} is not, or no longer, in the log; stop the group and say where it goes on:"
        f" streamproc offsets set {topic} {number} earliest"
    )
    return PartitionStopped(partition, "offset_out_of_range", detail)


def _denied(partition: TopicPartition) -> PartitionStopped:
    return PartitionStopped(partition, "not_authorized", f"this user may not read topic {partition.topic}")
