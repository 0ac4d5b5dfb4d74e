"""The Consumer port over aiokafka. The client's errors and quirks are translated here and nowhere else."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.abc import ConsumerRebalanceListener

from streamproc.adapters.kafka_batches import install, merge, size_of
from streamproc.adapters.kafka_client import KafkaOptions, client_options, unreachable
from streamproc.errors import BrokerError
from streamproc.model import PartitionStopped, RecordBatch, TopicPartition
from streamproc.ports import RebalanceListener
from streamproc.stream.options import StreamOptions

log = logging.getLogger(__name__)

MERGED_RECORDS_MIN = 1_000
STOP_TIMEOUT_S = 5.0
_NOWHERE = aiokafka.TopicPartition("", -1)
"""Polled when no partition is wanted: a member that does not poll is thrown out of its group."""


class KafkaConsumer:
    """A member of a consumer group on a Kafka broker. Commits are explicit, positions never reset by themselves.

    `with_keys` says that the records' keys will be asked for; without it each is read when it is.
    """

    def __init__(
        self, options: KafkaOptions, stream: StreamOptions, *, member: str = "", with_keys: bool = True
    ) -> None:
        self._options = options
        self._stream = stream
        self._instance = f"{options.instance_id}-{member}" if options.instance_id and member else options.instance_id
        self._with_keys = with_keys
        self._failure: BrokerError | None = None
        self._theirs: dict[TopicPartition, aiokafka.TopicPartition] = {}
        self._asked: Sequence[aiokafka.TopicPartition] = ()

    async def start(self, listener: RebalanceListener) -> None:
        """See the port."""
        self._client = aiokafka.AIOKafkaConsumer(**client_options(self._options), **self._consumer_options())
        try:
            await self._client.start()
            await self._check_topics()
        except errors.KafkaError as error:
            await self.stop()
            raise unreachable(self._options, error) from None
        except BrokerError:
            await self.stop()
            raise
        if self._options.record_batches and not install(self._client, with_keys=self._with_keys):
            log.warning("aiokafka %s is not known: reading record by record, which is slower", aiokafka.__version__)
        self._client.subscribe(self._stream.topics, listener=_Listener(self, listener))

    def _consumer_options(self) -> dict[str, Any]:
        options = self._options
        return {
            "group_id": options.group_id,
            "group_instance_id": self._instance or None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": options.isolation_level,
            "session_timeout_ms": int(options.session_timeout_s * 1000),
            "heartbeat_interval_ms": int(min(3.0, options.session_timeout_s / 3) * 1000),
            "rebalance_timeout_ms": int(options.rebalance_timeout_s * 1000),
            "max_poll_interval_ms": int(options.poll_interval_max_s * 1000),
            "fetch_max_bytes": options.fetch_bytes_max,
            "max_partition_fetch_bytes": options.partition_fetch_bytes_max,
        }

    async def _check_topics(self) -> None:
        known = await self._client.topics()
        missing = sorted(set(self._stream.topics) - known)
        if missing:
            raise BrokerError(f"no such topic on the broker: {', '.join(missing)}; create it first")

    async def poll(
        self, partitions: Collection[TopicPartition], timeout_s: float
    ) -> Sequence[RecordBatch | PartitionStopped]:
        """See the port."""
        if self._failure is not None:
            raise self._failure
        wanted = [self._theirs[partition] for partition in partitions if partition in self._theirs] or [_NOWHERE]
        self._asked = wanted
        try:
            found = await self._client.getmany(*wanted, timeout_ms=int(timeout_s * 1000))
        except errors.KafkaError as error:
            return self._stopped(error)
        polled: list[RecordBatch | PartitionStopped] = []
        for partition, items in found.items():
            if isinstance(items[0], RecordBatch | PartitionStopped):
                polled += merge(items, MERGED_RECORDS_MIN)
            else:
                polled.append(_batch_of(TopicPartition(*partition), items))
        return polled

    def _stopped(self, error: errors.KafkaError) -> Sequence[PartitionStopped]:
        match error:
            case errors.NoOffsetForPartitionError():  # the listener is about to choose one
                return []
            case errors.OffsetOutOfRangeError():
                offsets = error.args[0]
                return [
                    PartitionStopped(TopicPartition(*partition), "offset_out_of_range", f"offset {offset} is gone")
                    for partition, offset in offsets.items()
                ]
            case errors.RecordTooLargeError():
                partition, offset = error.args[1], error.args[2]
                self._client.seek(partition, offset)
                detail = f"the record at offset {offset} is larger than kafka.partition_fetch_bytes_max"
                return [PartitionStopped(TopicPartition(*partition), "oversized_record", detail)]
            case errors.TopicAuthorizationFailedError():
                return [PartitionStopped(p, "not_authorized", str(error)) for p in self._theirs]
        raise BrokerError(f"the group cannot go on: {type(error).__name__}: {error}") from error

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port."""
        try:
            await self._client.commit({self._theirs[partition]: offset for partition, offset in offsets.items()})
        except (errors.KafkaError, KeyError) as error:
            raise BrokerError(type(error).__name__) from error

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        assigned = self._client.assignment() if self._theirs else ()
        ends = {ours: self._client.highwater(theirs) for ours, theirs in self._theirs.items() if theirs in assigned}
        return {partition: end for partition, end in ends.items() if end is not None}

    def silent_s(self) -> float:
        """See the port."""
        assigned = self._client.assignment() if self._theirs else ()
        answers = [self._client.last_poll_timestamp(asked) for asked in self._asked if asked in assigned]
        heard = [answer / 1000 for answer in answers if answer is not None]
        return max(0.0, time.time() - max(heard)) if heard else 0.0

    async def stop(self) -> None:
        """See the port."""
        stopping = asyncio.ensure_future(self._client.stop())
        with suppress(errors.KafkaError):
            done, _ = await asyncio.wait([stopping], timeout=STOP_TIMEOUT_S)
            if not done:
                log.warning("the Kafka consumer did not stop within %g s and is left behind", STOP_TIMEOUT_S)
            for task in done:
                if not task.cancelled():  # aiokafka takes the end of its own tasks for one while Kafka is gone
                    task.result()

    async def assigned(self, partitions: Collection[aiokafka.TopicPartition]) -> Mapping[TopicPartition, int]:
        """Settles where each partition is read from; called by the listener."""
        self._theirs = {TopicPartition(*partition): partition for partition in partitions}
        committed = await asyncio.gather(*(self._client.committed(partition) for partition in partitions))
        starts = dict(zip(partitions, committed, strict=True))
        for partition, offset in starts.items():
            if offset is None:
                starts[partition] = await self._begin(partition)
                self._client.seek(partition, starts[partition])
        return {TopicPartition(*partition): offset for partition, offset in starts.items() if offset is not None}

    async def _begin(self, partition: aiokafka.TopicPartition) -> int:
        position = self._stream.starting_position
        if position != "trim_horizon" and not await self._is_new_group(partition.topic):
            position = "trim_horizon"
        if position == "at_timestamp":
            stamp = self._stream.starting_timestamp
            assert stamp is not None
            found = (await self._client.offsets_for_times({partition: int(stamp.timestamp() * 1000)}))[partition]
            if found is not None:
                return int(found.offset)
        read = self._client.beginning_offsets if position == "trim_horizon" else self._client.end_offsets
        return int((await read([partition]))[partition])

    async def _is_new_group(self, topic: str) -> bool:
        """Whether the group has committed nothing of a topic: else a partition without a commit was added later."""
        numbers = self._client.partitions_for_topic(topic) or set()
        commits = await asyncio.gather(
            *(self._client.committed(aiokafka.TopicPartition(topic, number)) for number in numbers)
        )
        return all(commit is None for commit in commits)

    def fail(self, error: Exception) -> None:
        """Makes the next poll raise: aiokafka only logs what its listener raises."""
        self._failure = error if isinstance(error, BrokerError) else BrokerError(f"{type(error).__name__}: {error}")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    def __init__(self, consumer: KafkaConsumer, listener: RebalanceListener) -> None:
        self._consumer = consumer
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Collection[aiokafka.TopicPartition]) -> None:
        if not revoked:  # the first join
            return
        try:
            await self._listener.revoked([TopicPartition(*partition) for partition in revoked])
        except Exception as error:
            self._consumer.fail(error)
            raise

    async def on_partitions_assigned(self, assigned: Collection[aiokafka.TopicPartition]) -> None:
        try:
            await self._listener.assigned(await self._consumer.assigned(assigned))
        except Exception as error:
            self._consumer.fail(error)
            raise


def _batch_of(partition: TopicPartition, records: Sequence[Any]) -> RecordBatch:
    return RecordBatch(partition, records, next_offset=records[-1].offset + 1, nbytes=size_of(records))
