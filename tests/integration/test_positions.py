"""Where reading begins, goes on and ends, with the real client and a real broker."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchRequest

from streamproc.model import TopicPartition
from streamproc.stream.deadletter import OURS
from tests.integration.harness import ROOT, committed, read_all, until, until_true
from tests.integration.positions import member, number, options, stamp, writing

pytestmark = pytest.mark.broker

BOTH = pytest.mark.parametrize("record_batches", [True, False], ids=["record batches", "record by record"])


@pytest.fixture
def slow_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to where a group stands takes 0.4 s."""
    sound = GroupCoordinator._send_req

    async def send(self: Any, request: Any) -> Any:
        if isinstance(request, OffsetFetchRequest):
            await asyncio.sleep(0.4)
        return await sound(self, request)

    monkeypatch.setattr(GroupCoordinator, "_send_req", send)


@BOTH
@pytest.mark.usefixtures("slow_coordinator")
async def test_a_poll_that_began_before_a_rebalance_loses_nothing(
    bootstrap: str, topic: str, record_batches: bool
) -> None:
    kafka = options(bootstrap, topic, record_batches=record_batches)
    sent, done = 0, asyncio.Event()

    async def write() -> None:
        nonlocal sent
        async with writing(bootstrap) as producer:
            while not done.is_set():
                await producer.send_and_wait(topic, number(sent), partition=sent % 4)
                sent += 1

    async with member(kafka, [topic]) as first:
        writer = asyncio.ensure_future(write())
        seen: list[int] = []
        for _ in range(3):
            async with member(kafka, [topic]) as second:
                await second.until(lambda: len(second.seen) > 20, "the second reads")
            seen += second.seen
            count = len(first.seen)
            await first.until(lambda: len(first.seen) > count + 200, "the first goes on")  # noqa: B023
        done.set()
        await writer
        await until(lambda: len({*first.seen, *seen}) == sent, "every record was handled")


async def test_where_a_group_began_is_remembered_with_requests_for_all_partitions_at_once(
    bootstrap: str, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"begun-{stamp()}"
    await admin.create_topics([NewTopic(topic, 100, 1)])
    fetches = 0
    sound = GroupCoordinator._send_req

    async def send(self: Any, request: Any) -> Any:
        nonlocal fetches
        fetches += isinstance(request, OffsetFetchRequest)
        return await sound(self, request)

    monkeypatch.setattr(GroupCoordinator, "_send_req", send)
    async with writing(bootstrap) as producer:
        await producer.send_and_wait(topic, number(0), partition=7)
        async with member(options(bootstrap, topic), [topic], starting_position="latest") as first:
            await first.until(lambda: len(first.partitions()) == 100, "all are opened")
            assert fetches == 1
            assert (await committed(admin, topic, topic)) == {n: int(n == 7) for n in range(100)}
        await producer.send_and_wait(topic, number(1), partition=7)
        await producer.send_and_wait(topic, number(2), partition=8)
    async with member(options(bootstrap, topic), [topic], starting_position="latest") as second:
        await second.until(lambda: sorted(second.seen) == [1, 2], "what came between is read")
        assert first.seen == []


async def test_a_follower_waits_for_the_leader_s_choice(bootstrap: str, topic: str) -> None:
    """Two members join a new group at once; whoever leads chooses for both."""
    kafka = options(bootstrap, topic)
    async with writing(bootstrap) as producer:
        for partition in range(4):
            await producer.send_and_wait(topic, number(partition), partition=partition)
        async with (
            member(kafka, [topic], starting_position="latest") as one,
            member(kafka, [topic], starting_position="latest") as other,
        ):
            await until(lambda: len(one.partitions()) == len(other.partitions()) == 2, "they share")
            for partition in range(4):
                await producer.send_and_wait(topic, number(10 + partition), partition=partition)
            await until(lambda: sorted(one.seen + other.seen) == [10, 11, 12, 13], "what came later is read")


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    bootstrap: str, admin: AIOKafkaAdminClient, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with member(options(bootstrap, topic), [topic], starting_position="latest") as reader:
        async with writing(bootstrap) as producer:
            for n in range(10):
                await producer.send_and_wait(topic, number(n), partition=0)
        await reader.until(lambda: len(reader.seen) == 10, "the old one is read")
        await admin.delete_topics([topic])
        await until_true(lambda: _is_gone(admin, topic), "it is gone")
        await admin.create_topics([NewTopic(topic, 2, 1)])
        async with writing(bootstrap) as producer:
            for n in range(100, 120):
                await producer.send_and_wait(topic, number(n), partition=0)
        await reader.until(lambda: {*range(100, 120)} <= {*reader.seen}, "all of the new one is read")
        assert reader.metrics.recreated == {(topic,): 1}
        assert f"topic {topic} was deleted and made anew" in caplog.text
        assert not reader.running.done()


async def _is_gone(admin: AIOKafkaAdminClient, topic: str) -> bool:
    return topic not in await admin.list_topics()


@BOTH
async def test_a_log_that_ends_in_transaction_markers_is_done(
    bootstrap: str, admin: AIOKafkaAdminClient, topic: str, record_batches: bool
) -> None:
    kafka = options(bootstrap, topic, record_batches=record_batches)
    where = TopicPartition(topic, 0)
    async with writing(bootstrap, transactional_id=topic) as producer, member(kafka, [topic]) as reader:
        async with producer.transaction():
            await producer.send_and_wait(topic, number(1), partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, number(2), partition=0)
        await producer.abort_transaction()
        await reader.until(lambda: reader.backlog(where) == 0 and reader.partitions()[0].done == 4, "all is done")

        async def all_committed() -> bool:
            return (await committed(admin, topic, topic))[0] == 4

        await until_true(all_committed, "the end is committed")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, number(3), partition=0)
        async with writing(bootstrap) as other:
            await other.send_and_wait(topic, number(4), partition=0)
        await reader.until(lambda: reader.consumer._state(reader.consumer._theirs[where]).highwater == 6, "it is seen")
        assert reader.backlog(where) == 0  # behind an open transaction there is nothing to do
        await producer.commit_transaction()
        await reader.until(lambda: reader.backlog(where) == 0 and reader.partitions()[0].done == 7, "the rest is done")
    assert reader.seen == [1, 3, 4]


async def test_the_backlog_of_a_partition_that_is_not_read_is_known(bootstrap: str, topic: str) -> None:
    where = TopicPartition(topic, 0)
    async with (
        writing(bootstrap) as producer,
        member(options(bootstrap, topic), [topic], partition_records_max=1) as reader,
    ):
        reader.gate.clear()
        for n in range(5):
            await producer.send_and_wait(topic, number(n), partition=0)
        await reader.until(lambda: reader.partitions()[0].blocked == "records", "it is held back")
        for n in range(5, 25):
            await producer.send_and_wait(topic, number(n), partition=0)
        await reader.until(lambda: reader.backlog(where) == 25, "what came since is seen")
        reader.gate.set()


async def test_a_partition_stopped_before_its_first_record_has_a_backlog(
    bootstrap: str, admin: AIOKafkaAdminClient, topic: str
) -> None:
    async with writing(bootstrap) as producer:
        for n in range(9):
            await producer.send_and_wait(topic, number(n), partition=0)
        async with member(options(bootstrap, topic), [topic]) as reader:
            await reader.until(lambda: reader.partitions()[0].done == 9, "all is read")
        await _delete_before(admin, topic, 0, 9)
        await producer.send_and_wait(topic, number(9), partition=0)
    await _commit(bootstrap, topic, 0, 3)
    async with member(options(bootstrap, topic), [topic]) as reader:
        await reader.until(lambda: reader.partitions()[0].blocked == "offset_out_of_range", "it is stopped")
        await reader.until(lambda: reader.backlog(TopicPartition(topic, 0)) == 7, "its backlog is known")
        assert {one.blocked for n, one in reader.partitions().items() if n} == {""}


async def _delete_before(admin: AIOKafkaAdminClient, topic: str, partition: int, offset: int) -> None:
    from aiokafka import TopicPartition as Theirs
    from aiokafka.admin import RecordsToDelete

    await admin.delete_records({Theirs(topic, partition): RecordsToDelete(before_offset=offset)})


async def _commit(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    from aiokafka import AIOKafkaConsumer
    from aiokafka import TopicPartition as Theirs

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=topic, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([Theirs(topic, partition)])
    await consumer.commit({Theirs(topic, partition): offset})
    await consumer.stop()


def command(bootstrap: str, topic: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `streamproc` for the group that is named like the topic."""
    sets = [f"kafka.bootstrap_servers={bootstrap}", f"kafka.group_id={topic}", f"stream.topics={topic}"]
    flags = [part for one in sets for part in ("--set", one)]
    return subprocess.run(
        [sys.executable, "-m", "streamproc", *words, *flags], capture_output=True, text=True, cwd=ROOT
    )


@BOTH
async def test_what_cannot_be_read_is_skipped_by_hand_and_leaves_a_trace(
    bootstrap: str, admin: AIOKafkaAdminClient, topic: str, record_batches: bool
) -> None:
    kafka = options(bootstrap, topic, record_batches=record_batches, inflated_bytes_max=1_000_000)

    def skip(offset: int, inflated_bytes_max: int = 1_000_000) -> subprocess.CompletedProcess[str]:
        limit = f"kafka.inflated_bytes_max={inflated_bytes_max}"
        words = ("skip", topic, "0", str(offset), "--reason", "too large once", "--json", "--set", limit)
        return command(bootstrap, topic, *words)

    async with writing(bootstrap, compression_type="gzip", max_batch_size=2**24, max_request_size=2**24) as producer:
        await producer.send_and_wait(topic, number(1), partition=0)
        batch = producer.create_batch()
        for n in (2, 3):
            batch.append(key=None, value=number(n, size=900_000), timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))
        await producer.send_and_wait(topic, number(4), partition=0)
    async with member(kafka, [topic]) as reader:
        await reader.until(lambda: reader.partitions()[0].blocked == "unreadable_batch", "it is stopped")
        running = await asyncio.to_thread(skip, 1)
        assert (running.returncode, running.stdout) == (2, "")
        assert "is running: stop all its members first" in running.stderr
    early = await asyncio.to_thread(skip, 3)
    assert early.returncode == 2
    assert "the group stands at offset 1" in early.stderr
    sound = await asyncio.to_thread(skip, 1, 2_000_000)
    assert (sound.returncode, sound.stdout) == (2, "")
    assert f"the batch from 1 to 2 of {topic}-0 can be read with these settings" in sound.stderr
    assert f"streamproc offsets set {topic} 0 3" in sound.stderr
    done = await asyncio.to_thread(skip, 1)
    assert done.returncode == 0, done.stderr
    told = {"topic": topic, "partition": 0, "first": 1, "next": 3, "before": 1, "letter": f"{topic}.dlq"}
    assert json.loads(done.stdout) == told
    (letter,) = await read_all(bootstrap, f"{topic}.dlq")
    headers = {name.removeprefix(OURS): value.decode() for name, value in letter.headers}
    expected = {"condition": "skipped", "message": "too large once", "offset": "1", "offset.next": "3"}
    assert headers | expected == headers
    async with member(kafka, [topic]) as reader:
        await reader.until(lambda: reader.seen == [4], "what comes after is read")


async def test_a_group_goes_on_where_it_is_told_once_it_is_stopped(bootstrap: str, topic: str) -> None:
    kafka = options(bootstrap, topic)
    async with writing(bootstrap) as producer:
        for n in range(10):
            await producer.send_and_wait(topic, number(n), partition=0)
    async with member(kafka, [topic]) as reader:
        await reader.until(lambda: len(reader.seen) == 10, "all is read")
        running = await asyncio.to_thread(command, bootstrap, topic, "offsets", "set", topic, "0", "4")
        assert running.returncode == 2
        assert f"group '{topic}' is running: stop all its members first" in running.stderr
    outside = await asyncio.to_thread(command, bootstrap, topic, "offsets", "set", topic, "0", "11")
    assert outside.returncode == 2
    assert f"{topic}-0 holds offsets 0 to 9, not 11" in outside.stderr
    done = await asyncio.to_thread(command, bootstrap, topic, "offsets", "set", topic, "0", "4", "--json")
    assert json.loads(done.stdout) == {"topic": topic, "partition": 0, "before": 10, "after": 4, "begin": 0, "end": 10}
    async with member(kafka, [topic]) as reader:
        await reader.until(lambda: reader.seen == [4, 5, 6, 7, 8, 9], "it goes on there")
