"""Deliberately broken builds of what stands between the broker and the engine. The oracle must catch each.

A mutant is judged by the invariants beside it alone: what else it breaks on the way is let pass, so that each of them
finds the fault by itself or not at all.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.commit import OffsetFetchRequest

from streamproc.adapters.kafka import _NOWHERE, KafkaConsumer
from streamproc.adapters.kafka_batches import size_of
from streamproc.adapters.kafka_group import Membership, Theirs, _by_topic
from streamproc.core.engine import Engine
from streamproc.core.letters import Letter
from streamproc.model import OutRecord, PartitionStopped, RecordBatch, TopicPartition
from streamproc.stream import settle
from streamproc.stream.execute import Executor
from streamproc.stream.settle import Settler
from tests.simulation import mutants as engines
from tests.simulation.instead import instead
from tests.simulation.wire.story import THEMES, Theme

Install = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken build, the invariants that judge it, and the themes of the seeds that can show it."""

    name: str
    judges: frozenset[str]
    install: Install
    themes: frozenset[Theme]


MUTANTS: list[Mutant] = []


def mutant(*judges: str, themes: Sequence[Theme] = THEMES) -> Callable[[Callable[[], Iterator[None]]], Install]:
    """Enters a broken build in the list."""

    def register(build: Callable[[], Iterator[None]]) -> Install:
        install = contextmanager(build)
        MUTANTS.append(Mutant(build.__name__, frozenset(judges), install, frozenset(themes)))
        return install

    return register


def _also(name: str, judge: str) -> None:
    """Enters the last one again, for another judge."""
    MUTANTS.append(replace(MUTANTS[-1], name=name, judges=frozenset({judge})))


# the intake


async def _own_positions(self: Membership, assignment: Any, node: int, partitions: Any) -> bool:
    """The client asks by itself where its partitions stand."""
    return bool(await Fetcher._update_fetch_positions(self._fetcher, assignment, node, partitions))


def _begin_without_seeking(self: KafkaConsumer, starts: Mapping[Theirs, int]) -> None:
    ours = {TopicPartition(*one): offset for one, offset in starts.items()}
    self._next |= ours
    if ours:
        self._listener.assigned(ours)


_STARTS = KafkaConsumer._starts


async def _starts_later(self: KafkaConsumer, pending: Set[Theirs], *others: Any, **named: Any) -> Any:
    """What the listener asks comes behind what the client asks for itself."""
    await asyncio.gather(*(self._client.committed(one) for one in pending))
    return await _STARTS(self, pending, *others, **named)


async def _poll_across_assignments(
    self: KafkaConsumer, partitions: Sequence[TopicPartition], timeout_s: float, *, max_bytes: int
) -> Sequence[RecordBatch | PartitionStopped]:
    if self._failure is not None:
        raise self._failure
    self._asked = [self._theirs[one] for one in partitions if one in self._theirs] or [_NOWHERE]
    try:
        return await self._read(self._asked, timeout_s, max_bytes)
    except errors.KafkaError as error:
        return self._stopped(error)


def _batch_from_anywhere(self: KafkaConsumer, one: Theirs, records: Sequence[Any]) -> RecordBatch | None:
    state = self._state(one)
    if state is None or not state.has_valid_position:
        return None
    start = records[0].offset if records else state.position
    return RecordBatch(TopicPartition(*one), records, start=start, next_offset=state.position, nbytes=size_of(records))


def _takes_what_lies_ahead(self: Engine, batch: RecordBatch) -> bool:
    ledger = self.ledgers.get(batch.partition)
    if ledger is None or batch.partition in self._draining or batch.next_offset <= ledger.admitted:
        return False
    ledger.admitted = batch.start
    return True


def _no_reread(self: Engine, partition: TopicPartition) -> None:
    return None


def _no_rewind(self: KafkaConsumer) -> None:
    return None


@contextmanager
def _old_intake(takes: Callable[[Engine, RecordBatch], bool]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, broken in (
            (Membership, "_put_off", _own_positions),
            (KafkaConsumer, "_starts", _starts_later),
            (KafkaConsumer, "_begin", _begin_without_seeking),
            (KafkaConsumer, "poll", _poll_across_assignments),
            (KafkaConsumer, "_batch_of", _batch_from_anywhere),
            (KafkaConsumer, "_rewind", _no_rewind),
            (Engine, "takes", takes),
            (Engine, "reread", _no_reread),
        ):
            stack.enter_context(instead(owner, name, broken))
        yield


@mutant("L")
def passes_what_the_engine_never_took() -> Iterator[None]:
    """What a poll took of an assignment that ended meanwhile is handed on; what comes too early is ignored."""
    with _old_intake(_takes_what_lies_ahead):
        yield


_also("commits_what_the_engine_never_took", "C")


@mutant("L", "C", themes=("storm", "members", "network"))
def hands_on_what_an_ended_assignment_brought() -> Iterator[None]:
    """A poll does not ask whether its assignment has ended, and nobody seeks back to what was not taken."""

    async def poll(
        self: KafkaConsumer, partitions: Sequence[TopicPartition], timeout_s: float, *, max_bytes: int
    ) -> Sequence[RecordBatch | PartitionStopped]:
        polled = await _poll_across_assignments(self, partitions, timeout_s, max_bytes=max_bytes)
        self._next |= {item.partition: item.next_offset for item in polled if isinstance(item, RecordBatch)}
        return polled

    with (
        instead(KafkaConsumer, "poll", poll),
        instead(Membership, "_put_off", _own_positions),
        instead(KafkaConsumer, "_starts", _starts_later),
        instead(KafkaConsumer, "_begin", _begin_without_seeking),
        instead(Engine, "reread", _no_reread),
    ):
        yield


# where a partition begins


@mutant("X")
def forgets_the_chosen_start() -> Iterator[None]:
    """Each member chooses where its partitions begin, and commits nothing before a record is done."""
    with instead(KafkaConsumer, "_starts", _uncommitted_starts):
        yield


async def _uncommitted_starts(
    self: KafkaConsumer, pending: Set[Theirs], _led: Set[str], _generation: int, **_others: Any
) -> tuple[dict[Theirs, int], dict[Theirs, Exception]]:
    assert self._membership is not None
    topics = frozenset(self._stream.topics)
    committed, refused = await self._membership.committed({*pending, *self._partitions_of(topics)})
    self._note_ids(await self._membership.topic_ids(topics))
    starts = {one: offset for one, (offset, _) in committed.items() if one in pending}
    if missing := [one for one in pending if one not in committed and one not in refused]:
        starts |= await self._first_starts(missing, {one.topic for one in committed})
    return starts, refused


_also("forgets_what_came_between_two_runs", "L")


@mutant("L", "X", "C", themes=("network", "members"))
def chooses_again_after_an_error() -> Iterator[None]:
    """The leader does not remember the starts that it has chosen and could not commit."""

    async def starts(self: KafkaConsumer, *others: Any, **named: Any) -> Any:
        self._chosen = (-1, {})
        return await _STARTS(self, *others, **named)

    with instead(KafkaConsumer, "_starts", starts):
        yield


@mutant("C", "L", themes=("network", "members", "storm"))
def commits_the_starts_of_another_generation() -> Iterator[None]:
    """A leader whose generation has ended commits the starts it chose all the same."""
    sound = Membership.commit

    async def commit(self: Membership, *others: Any, generation: int) -> None:
        await sound(self, *others, generation=self.generation)

    with instead(Membership, "commit", commit):
        yield


@mutant("L", "X", "C", themes=("network",))
def takes_an_error_for_no_commit() -> Iterator[None]:
    """A partition whose offset the coordinator does not tell counts as one without a commit."""

    async def committed(self: Membership, partitions: Any) -> tuple[dict[Theirs, tuple[int, str]], dict[Theirs, Any]]:
        asked = set(partitions)
        asks = _by_topic((one, one.partition) for one in asked)
        response = await self._ask(OffsetFetchRequest(self._coordinator.group_id, asks))
        found = {
            aiokafka.TopicPartition(topic, number): (offset, metadata or "")
            for topic, answers in response.topics
            for number, offset, metadata, _ in answers
            if offset >= 0
        }
        return found, {}

    with instead(Membership, "committed", committed):
        yield


@mutant("C", "L", "O", "DRAINS", themes=("topics",))
def commits_without_the_topic() -> Iterator[None]:
    """A commit does not say which topic of that name it is of."""

    def metadata(self: KafkaConsumer, topic: str) -> str:
        return ""

    with instead(KafkaConsumer, "_metadata", metadata):
        yield


# ends


@mutant("DRAINS")
def compares_with_the_high_watermark() -> Iterator[None]:
    """The end of a partition is where its log ends, open transactions included."""
    sound = KafkaConsumer._fetched

    def fetched(self: KafkaConsumer, one: Theirs) -> tuple[int, float] | None:
        found, state = sound(self, one), self._state(one)
        return None if found is None else (state.highwater, found[1])

    with instead(KafkaConsumer, "_fetched", fetched):
        yield


@mutant("DRAINS")
def stands_before_markers() -> Iterator[None]:
    """Record by record, a partition stands behind its last record, not where the client stands."""
    sound = KafkaConsumer._batch_of

    def batch_of(self: KafkaConsumer, one: Theirs, records: Sequence[Any]) -> RecordBatch | None:
        batch = sound(self, one, records)
        return replace(batch, next_offset=records[-1].offset + 1) if batch is not None and records else None

    with instead(KafkaConsumer, "_batch_of", batch_of):
        yield


# dead letters


def _in_its_own_time(form: Callable[..., OutRecord]) -> Callable[..., OutRecord]:
    def dated(letter: Letter, options: Any) -> OutRecord:
        return replace(form(letter, options), timestamp=letter.entry.batch.records[letter.index].timestamp)

    return dated


@mutant("L")
def dates_letters_as_their_records() -> Iterator[None]:
    """A dead letter has the time of its record, by which the broker deletes it."""
    with instead(settle, "FORMS", [_in_its_own_time(form) for form in settle.FORMS]):
        yield


_also("dates_letters_in_the_future", "DRAINS")


@mutant("L")
def settles_letters_that_were_refused() -> Iterator[None]:
    """A dead letter counts as sent whatever the broker says."""
    sound = Settler._acknowledged

    def acknowledged(self: Settler, letters: Sequence[Letter], results: Sequence[Any]) -> None:
        sound(self, letters, [None] * len(letters))

    with instead(Settler, "_acknowledged", acknowledged):
        yield


# members


@mutant("DRAINS", themes=("namesake",))
def takes_a_namesake_for_a_rebalance() -> Iterator[None]:
    """A member that was replaced by another of its name joins again."""

    def is_taken(self: Membership, code: int, began: float) -> bool:
        return False

    with instead(Membership, "_is_taken", is_taken):
        yield


@mutant("HELD", themes=("members",))
def holds_its_partitions_for_ever() -> Iterator[None]:
    """A member does not ask whether its session has ended."""
    sound = Membership._note

    def note(self: Membership, kind: int, code: int, began: float) -> None:
        sound(self, kind, code, began)
        self.held_until = math.inf

    with instead(Membership, "_note", note):
        yield


@mutant("DRAINS", themes=("members",))
def wakes_workers_that_may_not_begin() -> Iterator[None]:
    """Work spreads while the member's session has ended."""

    def spread(self: Executor, workers: int) -> None:
        if self._function.ready(self._run.now()) > 1:
            self.wake(workers, more=2)

    with instead(Executor, "_spread", spread):
        yield


@mutant("D", themes=("calm",))
def leaves_without_a_commit() -> Iterator[None]:
    """What is finished is not committed when partitions are given up."""

    async def finish(self: Settler, partitions: Any) -> None:
        """Nothing."""

    with instead(Settler, "finish", finish):
        yield


@mutant("CRASH", themes=("storm",))
def admits_what_does_not_follow() -> Iterator[None]:
    """The old intake before today's ledger, which takes only what begins where it stands."""

    def takes(self: Engine, batch: RecordBatch) -> bool:
        return batch.partition in self.ledgers and batch.partition not in self._draining

    with _old_intake(takes):
        yield


MUTANTS += [
    Mutant(build.__name__, frozenset({"O"}), build, frozenset(THEMES))
    for build in (engines.takes_the_newest_of_a_key_first, engines.forgets_the_calls_of_a_revoked_partition)
]
