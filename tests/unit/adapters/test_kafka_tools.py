"""Reading up to an end, from a log in memory that answers like the client."""

from collections.abc import Mapping, Sequence

import aiokafka
import pytest

from streamproc.adapters.kafka_tools import read_until
from streamproc.errors import BrokerError

P0, P1 = aiokafka.TopicPartition("events", 0), aiokafka.TopicPartition("events", 1)


def record(partition: aiokafka.TopicPartition, offset: int) -> aiokafka.ConsumerRecord:
    return aiokafka.ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=1000 + offset,
        timestamp_type=0,
        key=b"k",
        value=str(offset).encode(),
        checksum=None,
        serialized_key_size=1,
        serialized_value_size=1,
        headers=(),
    )


class Log:
    """Gives one fetch after the other; a fetch is the records of each partition and the position after them."""

    def __init__(self, *fetches: Mapping[aiokafka.TopicPartition, tuple[Sequence[int], int]]) -> None:
        self._fetches = list(fetches)
        self._positions: dict[aiokafka.TopicPartition, int] = {}
        self.asked: list[set[aiokafka.TopicPartition]] = []

    async def getmany(
        self, *partitions: aiokafka.TopicPartition, timeout_ms: int
    ) -> dict[aiokafka.TopicPartition, list[aiokafka.ConsumerRecord]]:
        self.asked.append(set(partitions))
        fetched = self._fetches.pop(0) if self._fetches else {}
        for partition, (_, position) in fetched.items():
            self._positions[partition] = position
        return {
            partition: [record(partition, offset) for offset in offsets]
            for partition, (offsets, _) in fetched.items()
            if offsets
        }

    async def position(self, partition: aiokafka.TopicPartition) -> int:
        return self._positions.get(partition, 0)


async def test_it_reads_each_partition_up_to_its_end_and_not_beyond() -> None:
    log = Log({P0: ([0, 1], 2), P1: ([5], 6)}, {P0: ([2, 3, 4], 5)})
    found = await read_until(log, {P0: 4, P1: 6})
    assert [(one.partition.partition, one.offset) for one in found] == [(0, 0), (0, 1), (1, 5), (0, 2), (0, 3)]
    assert (found[0].value, found[0].timestamp) == (b"0", 1000)
    assert log.asked == [{P0, P1}, {P0}]


async def test_a_topic_may_end_in_what_is_no_record() -> None:
    log = Log({P0: ([0], 1)}, {P0: ([], 2)})
    assert [one.offset for one in await read_until(log, {P0: 2})] == [0]


async def test_nothing_to_read_is_not_asked_for() -> None:
    log = Log()
    assert await read_until(log, {}) == []
    assert log.asked == []


async def test_a_broker_that_goes_silent_is_told() -> None:
    with pytest.raises(BrokerError, match="sent nothing for 10 s"):
        await read_until(Log({P0: ([0], 1)}), {P0: 2})
