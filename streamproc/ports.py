"""Protocols at the real seams. Adapters implement them; the engine and the functions see only these."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Protocol

from streamproc.errors import BrokerError
from streamproc.model import OutRecord, PartitionStopped, RecordBatch, TopicPartition
from streamproc.rows import Firing, LegRecord


@dataclass(frozen=True, slots=True)
class RebalanceListener:
    """What a consumer calls, in its own background task, when partitions come and go.

    `revoked` is awaited before the partitions are given up; it may also come after they were already lost.
    `assigned` gets partitions with the offset each starts at, from which the next poll reads it. It must not wait.
    Of one assignment it may be called several times, as the starts become known.
    `recreated` is told the name of a topic that was deleted and made anew under the group.
    """

    revoked: Callable[[Collection[TopicPartition]], Awaitable[None]]
    assigned: Callable[[Mapping[TopicPartition, int]], None]
    recreated: Callable[[str], None] = lambda _: None


class Consumer(Protocol):
    """A member of a consumer group."""

    async def start(self, listener: RebalanceListener) -> None:
        """Joins the group. Raises BrokerError when no broker answers or the topics do not exist."""

    async def poll(
        self, partitions: Collection[TopicPartition], timeout_s: float, *, max_bytes: int
    ) -> Sequence[RecordBatch | PartitionStopped]:
        """Returns what is there of these partitions, waiting up to `timeout_s` for something to come.

        Must be called at least once per poll interval to stay in the group, also with no partitions at all.
        A partition's batches follow on each other: each starts where the one before it ended. Once they hold
        `max_bytes`, the rest is left for the next poll; one batch may exceed it. Nothing of an assignment that ended
        while the call waited is returned. Raises BrokerError when the group cannot go on.
        """

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Makes the next poll read an assigned partition from this offset on."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits the next offset to read per partition. Raises BrokerError when it was not acknowledged."""

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition as last heard from the broker; a partition not heard of is missing.

        Where only committed transactions are read, that is the last stable offset.
        """

    def trouble(self) -> str:
        """Returns what keeps it from reading and no partition shows, such as a topic that is gone; empty if nothing."""

    def held_until(self) -> float:
        """Returns until when the group holds this member's partitions for it, by the clock that times calls.

        Past it another member may have them: nothing more may begin. Each heartbeat moves it on.
        """

    def silent_s(self) -> float:
        """Seconds since the broker last answered a fetch of what is polled, 0 while nothing is."""

    async def stop(self) -> None:
        """Leaves the group without commit and without calling the listener. Never raises, ends within seconds."""


class Producer(Protocol):
    """Writes records with acknowledgement by all in-sync replicas, idempotently."""

    async def start(self) -> None:
        """Connects. Raises BrokerError."""

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """Sends all and waits for each: None where acknowledged, else the error. The result aligns with `records`."""

    async def stop(self) -> None:
        """Flushes and closes. Never raises, ends within seconds."""


class Observer(Protocol):
    """Is told rare facts; what is frequent is counted by the engine and read from its Snapshot."""

    def rebalanced(self, drain_s: float) -> None:
        """Partitions were given up after `drain_s` seconds of waiting for calls to end."""

    def commit_failed(self, error: str) -> None:
        """A commit was not acknowledged; `error` is the name of the error."""

    def topic_recreated(self, topic: str) -> None:
        """A topic was deleted and made anew; it is read from its beginning."""

    def loop_lagged(self, seconds: float) -> None:
        """The event loop came back this much later than asked, seen a few times a second."""

    def call_abandoned(self, function: str) -> None:
        """A call in a thread ran over its time limit; it holds its place until it returns."""


class Mailer(Protocol):
    """Sends mail."""

    async def send(self, message: EmailMessage) -> None:
        """Delivers the message. After an error that may be repeated, it may come twice, with the same Message-ID.

        Raises OSError where sending it again may help, MailRefused where it never will.
        """


class Waiting(Protocol):
    """The events that wait in an outbox, as its one relay sees them. Raises StoreError where the database is gone."""

    async def take(self, limit: int) -> Sequence[tuple[int, OutRecord]]:
        """The first that wait, each with its number, in the order they were written. They stay until removed."""

    async def remove(self, numbers: Sequence[int]) -> None:
        """Forgets those that the broker has."""


class Outbox(Protocol):
    """Events in the database that wait for the broker. The stores write them, in the transaction of their rows."""

    def relay(self) -> AbstractAsyncContextManager[Waiting | None]:
        """The right to publish, for as long as the block runs; None while another relay has it.

        It is free again as soon as its process is gone.
        """

    async def count(self) -> int:
        """How many wait."""


class Journal(Protocol):
    """What became of the legs of workflows. Stores write a leg in the transaction of its effect; this is for others."""

    async def read(self, run_id: str) -> Sequence[LegRecord]:
        """The legs of a run, none when it is not known. Raises StoreError."""

    async def write(self, record: LegRecord) -> bool:
        """Writes what became of a leg, and says whether that was news.

        A leg that ended before stays as it is, but that one that is done may become undone; so does one of another
        fingerprint, and one that failed in this or a later attempt, unless it becomes undone. Raises StoreError.
        """


class Firings(Protocol):
    """The times at which schedules were due. Raises StoreError where the database is gone."""

    async def last(self) -> Mapping[str, Firing]:
        """The latest firing of each schedule."""

    async def claim(self, firing: Firing, event: OutRecord | None) -> bool:
        """Writes a firing and its event (for the outbox) in one transaction; False when somebody had it before.

        The firings of its schedule that are 90 days older than it are forgotten, and count as had.
        """

    async def move(self, firing: Firing) -> Firing | None:
        """Replaces the state, the lease and the end of a firing that is neither done nor failed.

        Returns what is stored of it then; None when it is not known.
        """

    async def running(self, schedule: str, before: datetime) -> bool:
        """Whether a firing before that time is due or running, and its lease has not run out at that time."""


class ObjectStore(Protocol):
    """Objects by key: bytes under a name like `uploads/2026/cat.jpg`. Raises StoreError where it may be repeated.

    A key is 1 to 1,024 bytes of UTF-8 in segments between slashes, none of them empty, `.` or `..`, without control
    characters and backslashes; ValueError for what is not, and for what this very store has no place for.
    """

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Stores an object whole, in place of one of the same key. The type is kept where the store keeps types."""

    async def get(self, key: str, *, bytes_max: int) -> bytes | None:
        """The object, None when there is none. Raises ObjectTooLarge, before it is read, for one of more bytes."""

    async def delete(self, key: str) -> None:
        """Deletes an object, if there is one."""
