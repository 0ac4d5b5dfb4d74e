"""Whole record batches out of aiokafka's fetch buffer, instead of one `ConsumerRecord` after the other.

aiokafka turns each record into a dataclass, which costs more than everything this package does with it. Here the
client keeps all its bookkeeping (fetching, positions, rebalances, transactions), and only the iterator that unpacks a
fetched partition is replaced: it yields a `RecordBatch` per batch of the log. That touches private names of
aiokafka 0.14, so `install` does nothing for another version and the caller reads records by the public way.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import aiokafka
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import KafkaError

from streamproc.model import PartitionStopped, RecordBatch, TopicPartition

TESTED = "0.14."
OVERHEAD_BYTES = 200
"""What a record holds in memory besides its value, about."""


def install(client: aiokafka.AIOKafkaConsumer) -> bool:
    """Makes `getmany` of a started, not yet subscribed consumer return batches; False if its version is not known."""
    if not aiokafka.__version__.startswith(TESTED):
        return False
    client._fetcher._records = _Buffer()
    client._fetcher._prefetch_backoff = 0.0
    return True


class _Buffer(OrderedDict[Any, Any]):
    """The fetcher's buffer, partition -> result: what is put in gets the iterator below."""

    def __setitem__(self, partition: Any, result: Any) -> None:
        if type(result) is FetchResult:
            unpacked = result._partition_records
            unpacked._records_iterator = _batches(unpacked)
        super().__setitem__(partition, result)


def _batches(fetched: Any) -> Iterator[RecordBatch | PartitionStopped]:
    """The batches of a fetched partition; empty ones where the log holds markers or aborted records.

    What cannot be read is a value as well: an exception would take along what other partitions gave to the same poll.
    """
    partition = TopicPartition(*fetched._tp)
    log = fetched._records
    while log.has_next():
        try:
            batch = log.next_batch()
            if fetched._check_crcs and not batch.validate_crc():
                raise KafkaError("its checksum is wrong")
            records = [] if _is_hidden(fetched, batch) else list(batch)
        except (KafkaError, ValueError, RuntimeError) as error:
            detail = f"the batch at offset {fetched.next_fetch_offset}: {type(error).__name__}: {error}"
            yield PartitionStopped(partition, "unreadable_batch", detail)
            return
        if records and records[0].offset < fetched.next_fetch_offset:
            records = [record for record in records if record.offset >= fetched.next_fetch_offset]
        fetched.next_fetch_offset = batch.next_offset
        yield RecordBatch(partition, records, next_offset=batch.next_offset, nbytes=size_of(records))


def _is_hidden(fetched: Any, batch: Any) -> bool:
    """Whether a batch is a transaction marker or belongs to an aborted transaction, as aiokafka decides it."""
    if fetched._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        fetched._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and fetched._contains_abort_marker(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in fetched._aborted_producers:
            return True
    return bool(batch.is_control_batch)


def size_of(records: Sequence[Any]) -> int:
    """Bytes a list of records holds in memory, about."""
    return sum([len(record.value or b"") for record in records]) + OVERHEAD_BYTES * len(records)


def merge(
    batches: Sequence[RecordBatch | PartitionStopped], records_min: int
) -> Iterator[RecordBatch | PartitionStopped]:
    """Joins neighbours until they have `records_min` records: a producer without linger writes batches of one."""
    pending: list[RecordBatch] = []
    count = 0
    for batch in batches:
        if isinstance(batch, PartitionStopped):
            yield from map(_joined, [pending] if pending else [])
            yield batch
            return
        pending.append(batch)
        count += len(batch.records)
        if count >= records_min:
            yield _joined(pending)
            pending, count = [], 0
    if pending:
        yield _joined(pending)


def _joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return RecordBatch(
        batches[0].partition,
        [record for batch in batches for record in batch.records],
        next_offset=batches[-1].next_offset,
        nbytes=sum(batch.nbytes for batch in batches),
    )
