"""What is read stays within its bounds, whatever it inflates to."""

import asyncio
import resource

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamproc.model import TopicPartition
from tests.integration.harness import Service, calls, committed, until, until_true
from tests.integration.positions import member, number, options, writing

pytestmark = pytest.mark.broker

MB = 1_048_576
BATCHES, RECORDS, PADDING = 24, 1_000, 30_000
"""720 MB of records, in batches of a few kilobytes on the wire."""


async def inflating(producer: AIOKafkaProducer, topic: str, batches: int, size: int) -> None:
    for batch in range(batches):
        builder = producer.create_batch()
        for n in range(RECORDS):
            value = b'{"type":"step","key":"k%d","n":%d,"workS":0}' % (n % 50, batch * RECORDS + n) + b" " * size
            assert builder.append(key=b"k%d" % (n % 50), value=value, timestamp=None) is not None
        await (await producer.send_batch(builder, topic, partition=0))


@pytest.mark.usefixtures("reader")
async def test_batches_that_inflate_are_taken_one_after_the_other(
    bootstrap: str, topic: str, tmp_path: object, admin: AIOKafkaAdminClient
) -> None:
    """In a process that may have 450 MB of data, with a bound of 32 MB for what is in flight."""
    async with writing(
        bootstrap, compression_type="gzip", max_batch_size=64 * MB, max_request_size=64 * MB
    ) as producer:
        await inflating(producer, topic, BATCHES, PADDING)
    with Service(tmp_path, bootstrap, topic, stream__format="json", group=topic) as service:  # type: ignore[arg-type]
        resource.prlimit(service.pid, resource.RLIMIT_DATA, (450 * MB, 450 * MB))
        await service.ready()

        async def all_committed() -> bool:
            assert not service.has_ended, service.log.read_text()[-2_000:]
            return (await committed(admin, topic, topic)).get(0) == BATCHES * RECORDS

        await until_true(all_committed, "all is handled")
        assert await service.stop() == 0
    assert len({(call.key, call.n) for call in calls(tmp_path / "effects")}) == BATCHES * RECORDS  # type: ignore[operator]


@pytest.mark.parametrize("record_batches", [True, False], ids=["record batches", "record by record"])
async def test_a_batch_that_inflates_beyond_its_bound_stops_its_partition_alone(
    bootstrap: str, topic: str, record_batches: bool
) -> None:
    kafka = options(bootstrap, topic, record_batches=record_batches, inflated_bytes_max=2_000_000)
    async with writing(
        bootstrap, compression_type="gzip", max_batch_size=64 * MB, max_request_size=64 * MB
    ) as producer:
        await producer.send_and_wait(topic, number(1), partition=0)
        await producer.send_and_wait(topic, number(2, size=3_000_000), partition=0)
        await producer.send_and_wait(topic, number(3), partition=0)
        async with member(kafka, [topic]) as reader:
            await reader.until(lambda: reader.partitions()[0].blocked == "unreadable_batch", "it is stopped")
            await producer.send_and_wait(topic, number(4), partition=1)
            await reader.until(lambda: sorted(reader.seen) == [1, 4], "others go on")
            stopped = reader.pipeline.engine._stopped[TopicPartition(topic, 0)]
            assert "inflates to more than kafka.inflated_bytes_max = 2000000 bytes" in stopped.detail
            assert f"streamproc skip {topic} 0 1 --reason" in stopped.detail
            assert reader.partitions()[0].done == 1
            await asyncio.sleep(0)
            await until(lambda: not reader.running.done(), "it lives")
