"""The Producer port over aiokafka: idempotent, acknowledged by all in-sync replicas, with a deadline.

A broker takes or refuses a batch whole and does not say which record is to blame. So the records of a partition leave
in batches, one after another; a refused batch is sent again in halves, until the record to blame stands alone. No later
record of the partition leaves meanwhile, so nothing is overtaken.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.partitioner import DefaultPartitioner

from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.model import OutRecord

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""No limit of ours: the broker's own decides, and beyond 100 MB it cuts the connection without a word."""
BATCH_RECORDS_MAX = 100_000
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # the client has no types
    """A rule of the topic forbids the record, such as a record without a key where the topic is compacted."""

    errno = 87
    message = "INVALID_RECORD"


# The client takes a code that it does not know for an unknown error, which may pass.
errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_REFUSED = (errors.InvalidTimestampError, errors.CorruptRecordException, InvalidRecordError)
_NOT_APPENDED = (*_TOO_LARGE, *_REFUSED, errors.TopicAuthorizationFailedError)


class KafkaProducer:
    """Sends records and waits for the broker. After an error of its sequence or a missed deadline it starts anew."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._connection: _Connection | None = None
        self._restart = asyncio.Lock()

    async def start(self) -> None:
        """See the port."""
        await self._connected()

    async def _connected(self) -> "_Connection":
        async with self._restart:
            if self._connection is None:
                client = aiokafka.AIOKafkaProducer(
                    **client_options(self._options),
                    enable_idempotence=True,
                    acks="all",
                    max_request_size=REQUEST_BYTES_MAX,
                )
                try:
                    await client.start()
                except errors.KafkaError as error:
                    await _close(client)
                    raise unreachable(self._options, error) from None
                except asyncio.CancelledError:
                    await client.client.close()
                    raise
                self._connection = _Connection(client)
            return self._connection

    async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
        """See the port. Gives up after 5 s; what was on its way then may still arrive."""
        if not records:
            return []
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                connection = await self._connected()
        except BrokerError as error:
            return [error] * len(records)
        except TimeoutError:
            servers = ", ".join(self._options.bootstrap_servers)
            return [BrokerError(f"Kafka at {servers} did not answer within {SEND_TIMEOUT_S:g} s")] * len(records)
        sending = [_Sending(record) for record in records]
        by_topic: dict[str, list[_Sending]] = {}
        for one in sending:
            by_topic.setdefault(one.record.topic, []).append(one)
        handing = [asyncio.create_task(connection.hand_over(*topic)) for topic in by_topic.items()]
        await asyncio.wait([one.ended for one in sending], timeout=SEND_TIMEOUT_S)
        late = [one for one in sending if not one.ended.done()]
        for one in late:
            told = f"topic {one.record.topic}: no acknowledgement within {SEND_TIMEOUT_S:g} s"
            if not connection.knows(one.record.topic):
                told += ", and Kafka tells of no such topic: create it, or let this user see it"
            one.end(BrokerError(told))
        for task in handing:
            task.cancel()
        if connection.is_broken or any(one.is_out for one in late):
            await self._discard(connection)
        return [one.ended.result() for one in sending]

    async def _discard(self, connection: "_Connection") -> None:
        if self._connection is connection:
            self._connection = None
            await connection.close()

    async def stop(self) -> None:
        """See the port."""
        if self._connection is not None:
            await self._discard(self._connection)


class _Sending:
    """A record on its way. `is_out` once the client has it; `ended` is the answer."""

    __slots__ = ("ended", "is_out", "record")

    def __init__(self, record: OutRecord) -> None:
        self.record = record
        self.is_out = False
        self.ended: asyncio.Future[BrokerError | None] = asyncio.get_running_loop().create_future()

    def end(self, error: BrokerError | None) -> None:
        """Tells the caller, unless that was done."""
        if not self.ended.done():
            self.ended.set_result(error)


class _Connection:
    """A client and the lines of the partitions it sends to. `is_in_doubt` says so of its sequence numbers."""

    def __init__(self, client: Any) -> None:
        self.is_in_doubt = False
        self._client = client
        self._partitioner = DefaultPartitioner()
        self._lines: dict[tuple[str, int], _Line] = {}

    @property
    def is_broken(self) -> bool:
        """Whether its sequence numbers are in doubt, or it has ceased to ask for metadata, as it does when closed."""
        asking = self._client.client._sync_task
        return self.is_in_doubt or asking is None or bool(asking.done())

    def knows(self, topic: str) -> bool:
        """Whether the newest metadata tells of a topic."""
        return bool(self._client.client.cluster.partitions_for_topic(topic))

    async def hand_over(self, topic: str, sending: Sequence[_Sending]) -> None:
        """Puts records of one topic into their lines, once its partitions are known."""
        if not _TOPIC.fullmatch(topic):
            return _end(sending, RecordRefused(f"topic {topic[:300]!r}: no topic can have this name"))
        try:
            known = await self._client.partitions_for(topic)
        except errors.KafkaError as error:
            return _end(sending, _told(error, topic))
        for one in sending:
            try:
                partition = self._partition(one.record, known)
            except TypeError as error:
                one.end(RecordRefused(f"topic {topic}: the record's key is unfit: {error}"))
                continue
            if partition not in known:
                one.end(BrokerError(f"topic {topic} has no partition {partition}"))
                continue
            line = self._lines.get((topic, partition))
            if line is None:
                line = self._lines[topic, partition] = _Line(
                    self, self._client, aiokafka.TopicPartition(topic, partition)
                )
            line.add(one)

    def _partition(self, record: OutRecord, known: Collection[int]) -> int:
        if record.partition is not None:
            return record.partition
        available = self._client.client.cluster.available_partitions_for_topic(record.topic) or ()
        partition: int = self._partitioner(record.key, list(known), list(available))
        return partition

    async def close(self) -> None:
        """Lets the client send what it has, for 5 s; what is still in a line is refused."""
        await _close(self._client)
        writing = [line.writing for line in self._lines.values() if line.writing is not None]
        if writing:
            await asyncio.wait(writing, timeout=STOP_TIMEOUT_S)


class _Line:
    """The records of one partition on their way, one batch at a time. `writing` is the task while there are any."""

    def __init__(self, connection: _Connection, client: Any, partition: Any) -> None:
        self._connection = connection
        self._client = client
        self._partition = partition
        self._waiting: deque[_Sending] = deque()
        self.writing: asyncio.Task[None] | None = None

    def add(self, one: _Sending) -> None:
        """Puts a record at the end."""
        self._waiting.append(one)
        if self.writing is None:
            self.writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        records_max = BATCH_RECORDS_MAX
        while self._waiting:
            builder, out = self._fill(records_max)
            if not out:
                continue
            error = await self._answer(builder, out)
            if isinstance(error, RecordRefused) and len(out) > 1:
                records_max = len(out) // 2
                self._waiting.extendleft(reversed(out))
                continue
            # A topic that takes less than the client puts into a batch would refuse each of them first.
            records_max = min(2 * records_max, BATCH_RECORDS_MAX)
            _end(out, error)
            if error is not None and not isinstance(error, RecordRefused):
                _end(self._waiting, error)  # which must not overtake what failed
        self.writing = None

    def _fill(self, records_max: int) -> tuple[Any, Sequence[_Sending]]:
        """Takes from the line what fits into a batch, and refuses what cannot be encoded."""
        builder = self._client.create_batch()
        taken: list[_Sending] = []
        while self._waiting and len(taken) < records_max:
            one = self._waiting[0]
            if not one.ended.done():
                record = one.record
                try:
                    fits = builder.append(
                        timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers)
                    )
                except Exception as error:  # a function may have put anything into it
                    one.end(RecordRefused(f"topic {record.topic}: the record cannot be encoded: {error}"))
                else:
                    if fits is None:
                        break
                    taken.append(one)
            self._waiting.popleft()
        return builder, taken

    async def _answer(self, builder: Any, out: Sequence[_Sending]) -> BrokerError | None:
        topic = self._partition.topic
        if builder.size() > REQUEST_BYTES_MAX:
            return RecordTooLarge(
                f"topic {topic}: {builder.size()} bytes, and no more than {REQUEST_BYTES_MAX} are sent"
            )
        for one in out:
            one.is_out = True
        try:
            await (await self._client.send_batch(builder, topic, partition=self._partition.partition))
        except _NOT_APPENDED as error:
            # The client has counted these and the broker has not: the next batch would be out of sequence.
            self._client._txn_manager.increment_sequence_number(self._partition, -len(out))
            return _told(error, topic)
        except Exception as error:
            self._connection.is_in_doubt = True
            return _told(error, topic)
        return None


def _end(sending: Collection[_Sending], error: BrokerError | None) -> None:
    for one in sending:
        one.end(error)


def _told(error: Exception, topic: str) -> BrokerError:
    kind = BrokerError
    if isinstance(error, _TOO_LARGE):
        kind = RecordTooLarge
    elif isinstance(error, _REFUSED):
        kind = RecordRefused
    return kind(f"topic {topic}: {type(error).__name__}")


async def _close(client: Any) -> None:
    stopping = asyncio.ensure_future(client.stop())
    done, late = await asyncio.wait([stopping], timeout=STOP_TIMEOUT_S)
    for task in late:
        log.warning("the Kafka producer did not stop within %g s: what it has not sent is given up", STOP_TIMEOUT_S)
        task.cancel()
        await _give_up(client)
    for task in done:
        with suppress(errors.KafkaError):
            task.result()


async def _give_up(client: Any) -> None:
    """Ends what the client has left: it would go on sending for as long as the process lives."""
    accumulator, sender = client._message_accumulator, client._sender.sender_task
    for batch in [batch for batches in accumulator._batches.values() for batch in batches]:
        batch.drain_ready()  # nobody waits for that any more, so nobody would see its error
    accumulator.fail_all(errors.ProducerClosed())
    await client.client.close()
    if sender is not None:
        sender.remove_done_callback(client._sender._fail_all)  # done above; it would fail in a way of its own
        sender.cancel()
        await asyncio.wait([sender], timeout=STOP_TIMEOUT_S)
