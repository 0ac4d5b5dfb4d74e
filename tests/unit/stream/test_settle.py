"""Dead letters and commits, from the engine to the broker."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from streamproc import Reject, Stream, virtualtime
from streamproc.adapters.memory import Faults, MemoryProducer, StoredRecord
from streamproc.core.ledger import Ledger
from streamproc.core.letters import Letter
from streamproc.errors import BrokerError, RecordRefused, RecordTooLarge
from streamproc.model import Decoded, Failure, OutRecord, Poison, RecordBatch, TopicPartition
from streamproc.stream.deadletter import OURS
from tests.unit.stream.rig import P0, TOPIC, Ping, Rig, rig, virtual


async def take(event: Ping, ctx: Any) -> None:
    pass


async def reject(event: Ping, ctx: Any) -> Reject | None:
    return Reject("bad") if event.n >= 0 else None


class Scripted(Faults):
    """Each commit and each dead letter gets the next answer of a list: an error, or seconds to wait."""

    def __init__(self, *, commits: Sequence[object] = (), sends: Sequence[object] = ()) -> None:
        self._commits = list(commits)
        self._sends = list(sends)
        self.committed: list[int] = []

    async def before_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the base."""
        answer = self._commits.pop(0) if self._commits else 0
        if isinstance(answer, BrokerError):
            raise answer
        await asyncio.sleep(float(str(answer)))

    async def after_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the base."""
        self.committed.append(offsets[P0])

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        answer = self._sends.pop(0) if self._sends else 0
        if isinstance(answer, BrokerError):
            return answer
        await asyncio.sleep(float(str(answer)))
        return None


@contextmanager
def capturing() -> Iterator[list[str]]:
    """What is logged as an error meanwhile."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.ERROR)
    logging.getLogger("streamproc").addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger("streamproc").removeHandler(listener)


def settled(made: Rig, offset: int) -> Any:
    return lambda: made.committed >= offset


@virtual
async def test_a_commit_that_fails_is_counted_and_repeated() -> None:
    faults = Scripted(commits=[BrokerError("NotCoordinatorError"), 100.0])
    async with rig(Stream(Ping, take), faults=faults, commit_timeout_s=2.0) as made:
        made.put(1, 2)
        await made.until(settled(made, 2))
        assert made.watcher.commit_errors == ["NotCoordinatorError", "Timeout"]


@virtual
async def test_a_slow_commit_holds_up_no_record() -> None:
    faults = Scripted(commits=[4.0])
    async with rig(Stream(Ping, take), faults=faults, commit_interval_s=0.1) as made:
        made.put(1)
        await asyncio.sleep(1.0)
        made.put(2)
        await made.until(lambda: made.handled == 2, within_s=2.0)
        assert made.committed == 0
        await made.until(settled(made, 2))


@virtual
async def test_a_commit_that_had_to_wait_does_not_turn_the_clock_back() -> None:
    """The partition was given up and came back meanwhile; what was due then is not due now."""
    async with rig(Stream(Ping, take), commit_interval_s=60.0) as made:
        made.put(*range(3))
        await made.until(lambda: made.pipeline.snapshot().in_flight_records == 0 and bool(made.consumer.positions))
        await made.until(lambda: made.pipeline.snapshot().partitions[0].done == 3)
        settler = made.pipeline._settler
        stale = {P0: 1}
        await settler.finish([P0])
        made.pipeline.engine.revoke([P0])
        await settler.commit(stale)
        made.pipeline.engine.assign({P0: 3})
        await settler.commit(stale)
        assert [dict(commit.offsets) for commit in made.broker.commits] == [{P0: 3}]


@virtual
async def test_a_refused_dead_letter_is_sent_again_and_its_record_waits() -> None:
    faults = Scripted(sends=[BrokerError("NotEnoughReplicasError")] * 4)
    async with rig(Stream(Ping, reject), faults=faults, commit_interval_s=0.1) as made:
        made.put(1)
        await asyncio.sleep(3.0)
        assert made.committed == 0
        assert made.pipeline.snapshot().partitions[0].blocked == "dead_letters_refused"
        await made.until(settled(made, 1))
        assert len(made.dead()) == 1


@virtual
async def test_a_slow_dead_letter_holds_up_no_other_record() -> None:
    faults = Scripted(sends=[50.0])
    async with rig(Stream(Ping, reject), faults=faults, commit_interval_s=0.1) as made:
        made.put(1, -1, -1)
        await made.until(lambda: made.handled == 2, within_s=2.0)
        assert made.committed == 0
        await made.until(settled(made, 3))


@virtual
async def test_a_dead_letter_that_is_too_large_is_cut() -> None:
    async with rig(Stream(Ping, reject), bytes_max=4_000) as made:
        made.broker.append(OutRecord(TOPIC, b"x" * 3_900, b"key", [("mine", b"1")], partition=0))
        await made.until(settled(made, 1))
        (letter,) = made.dead()
        headers = dict(letter.headers)
        assert letter.value == b"x" * 1_024
        assert headers[OURS + "value.truncated"] == b"3900"
        assert headers[OURS + "offset"] == b"0"
        assert "mine" not in headers


class Picky(Faults):
    """Never takes dead letters that a test finds fault with."""

    def __init__(self, fault: Callable[[OutRecord], BrokerError | None]) -> None:
        self._fault = fault
        self.asked: list[OutRecord] = []

    async def before_send(self, record: OutRecord) -> BrokerError | None:
        """See the base."""
        self.asked.append(record)
        return self._fault(record)


def size(record: OutRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers


async def test_a_dead_letter_gets_smaller_until_the_broker_takes_it() -> None:
    for limit in (6_000, 4_000, 2_500, 900, 320):
        picky = Picky(lambda record: RecordTooLarge("too large") if size(record) > limit else None)  # noqa: B023
        (letter,) = await dead_letters(picky, OutRecord(TOPIC, b"x" * 3_000, b"key", [("mine", b"1" * 1_000)]))
        assert dict(letter.headers)[OURS + "offset"] == b"0"
        sizes = [size(record) for record in picky.asked]
        assert sizes == sorted(set(sizes), reverse=True)


async def test_what_the_broker_forbids_is_left_out_and_the_value_kept() -> None:
    def no_foreign_headers(record: OutRecord) -> BrokerError | None:
        return RecordRefused("InvalidRecordError") if "mine" in dict(record.headers) else None

    (letter,) = await dead_letters(Picky(no_foreign_headers), OutRecord(TOPIC, b"x" * 3_000, b"k", [("mine", b"1")]))
    assert (letter.key, letter.value) == (b"k", b"x" * 3_000)


async def test_a_topic_that_needs_keys_gets_them() -> None:
    def needs_key(record: OutRecord) -> BrokerError | None:
        return RecordRefused("InvalidRecordError") if record.key is None else None

    (letter,) = await dead_letters(Picky(needs_key), OutRecord(TOPIC, b"x" * 3_000))
    assert (letter.key, letter.value) == (b"events/0/0", b"x" * 3_000)
    assert dict(letter.headers)[OURS + "key.null"] == b"true"


async def dead_letters(faults: Faults, record: OutRecord) -> list[StoredRecord]:
    """The dead letters of one record that is rejected, in virtual time."""

    async def play() -> list[StoredRecord]:
        async with rig(Stream(Ping, reject)) as made:
            made.broker.append(record)
            made.broker.faults = faults
            await made.until(settled(made, 1), within_s=5.0)
            return made.dead()

    return await asyncio.to_thread(lambda: virtualtime.run(play()))


@virtual
async def test_a_topic_that_takes_no_dead_letter_at_all_blocks_the_partition_and_says_what_to_do() -> None:
    picky = Picky(lambda record: RecordTooLarge("topic events.dlq: MessageSizeTooLargeError"))
    with capturing() as said:
        async with rig(Stream(Ping, reject), faults=picky) as made:
            made.put(1)
            await asyncio.sleep(30.0)
            assert (made.committed, made.dead()) == (0, [])
            assert made.pipeline.snapshot().partitions[0].blocked == "dead_letters_refused"
            picky._fault = lambda record: None
            await made.until(settled(made, 1))
            assert len(made.dead()) == 1
    assert "topic events.dlq: MessageSizeTooLargeError" in said[0]
    assert "raise max.message.bytes" in said[0]


@virtual
async def test_a_record_that_cannot_be_read_again_is_a_dead_letter_with_its_position() -> None:
    """Another client may write header names that are no UTF-8; the rest of the batch must not suffer for it."""

    class Broken(Sequence[StoredRecord]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: Any) -> Any:
            if index == 0:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            return StoredRecord(1, 0, b"k", b"{}")

    async with rig(Stream(Ping, reject)) as made:
        made.put(1, 1)
        await made.until(settled(made, 2))
        whole = made.dead()
        ledger = Ledger(P0, epoch=1, start=0)
        batch = RecordBatch(P0, [StoredRecord(n, 0, b"k", b"{}") for n in range(2)], start=0, next_offset=2, nbytes=0)
        entry = ledger.admit(Decoded(batch, [Poison("json", "bad")] * 2, ()), now=0.0)
        batch.records = Broken()  # type: ignore[assignment]
        letters = [
            Letter(entry, n, event_type="other", condition="json", failure=Failure("Poison", "bad")) for n in (0, 1)
        ]
        await made.pipeline._settler._send(letters)
        first, second = sorted(made.dead()[len(whole) :], key=lambda one: dict(one.headers)[OURS + "offset"] or b"")
    assert (first.value, dict(first.headers)[OURS + "offset"]) == (b"", b"0")
    assert dict(first.headers)[OURS + "condition"] == b"json"
    assert (second.value, second.key) == (b"{}", b"k")


@virtual
async def test_nothing_of_a_revoked_partition_is_sent_again_cut() -> None:
    slow = Scripted(sends=[])

    class Whole(MemoryProducer):
        async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
            sent.append(records)
            await asyncio.sleep(5.0)
            return await super().send(records)

    sent: list[Sequence[OutRecord]] = []
    async with rig(Stream(Ping, reject), faults=slow, bytes_max=4_000) as made:
        made.pipeline._settler._producer = Whole(made.broker)
        made.broker.append(OutRecord(TOPIC, b"x" * 3_900, partition=0))
        await made.until(lambda: len(sent) == 1)
        made.pipeline.engine.revoke([P0])
        await asyncio.sleep(60.0)
        assert len(sent) == 1


@virtual
async def test_a_producer_that_raises_loses_no_dead_letter() -> None:
    class Broken(MemoryProducer):
        left = 2

        async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
            if self.left:
                self.left -= 1
                raise RuntimeError("a bug in the client")
            return await super().send(records)

    async with rig(Stream(Ping, reject)) as made:
        made.pipeline._settler._producer = Broken(made.broker)
        made.put(1)
        await made.until(settled(made, 1))
        assert len(made.dead()) == 1


@virtual
async def test_a_bug_in_the_engine_ends_the_pipeline() -> None:
    """It used to end a task nobody looked at, and the partition stood still."""

    class Twice(MemoryProducer):
        async def send(self, records: Sequence[OutRecord]) -> Sequence[BrokerError | None]:
            ledger = made.pipeline.engine.ledgers[P0]
            ledger.settle_one(ledger.entries[0], 0)
            return await super().send(records)

    async with rig(Stream(Ping, reject)) as made:
        made.pipeline._settler._producer = Twice(made.broker)
        made.put(1, -1)
        await asyncio.wait([made.running], timeout=60.0)
        assert made.running.done()
        assert "settled twice" in str(made.running.exception())


@virtual
async def test_the_end_commits_what_is_finished_and_waits_for_dead_letters() -> None:
    faults = Scripted(sends=[2.0])
    async with rig(Stream(Ping, reject), faults=faults, commit_interval_s=60.0) as made:
        made.put(-1, 1, -1)
        await made.until(lambda: made.handled == 2)
        assert await made.pipeline.stop(10.0)
        await made.running
        assert made.committed == 3
