"""What a process does once the group no longer holds its partitions for it."""

import asyncio
import signal
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from tests.integration.harness import Service, calls, check_order, publish, until
from tests.integration.shop import Step

pytestmark = pytest.mark.broker

COUNT = 40_000


async def test_a_session_that_the_broker_does_not_take_is_a_wrong_setting(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    with Service(tmp_path, bootstrap, topic, group=topic, kafka__session_timeout_s=1) as service:
        assert await service.exit_code() == 2
        (told,) = [line["message"] for line in service.logged() if "session_timeout_s" in line["message"]]
        assert told.startswith("kafka.session_timeout_s = 1: the broker takes it from its group.min.session.timeout.ms")


async def test_two_processes_of_one_name_do_not_throw_each_other_out(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """The later one stays, as with every Kafka client; the earlier one ends and says why."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Service(tmp_path / "a", bootstrap, topic, group=topic, kafka__instance_id="shop-1") as first:
        await first.ready()
        with Service(tmp_path / "b", bootstrap, topic, group=topic, kafka__instance_id="shop-1") as second:
            assert await first.exit_code() == 2
            messages = [line["message"] for line in first.logged()]
            said = [text for text in messages if "has joined group" in text and "kafka.instance_id = 'shop-1'" in text]
            assert len(said) == 1
            await second.ready()
            await publish(bootstrap, topic, [Step("k", n) for n in range(20)])
            await until(lambda: len(calls(tmp_path / "b" / "effects")) == 20, "the later one works")
            assert await second.stop() == 0


async def test_a_process_that_comes_back_under_its_name_sees_new_partitions(
    bootstrap: str, topic: str, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    """It takes its place without a rebalance, so nobody tells it that it leads the group, which must look for them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    settings = {"group": topic, "kafka__instance_id": "shop-1", "kafka__metadata_age_max_s": 1.0}
    with Service(tmp_path / "a", bootstrap, topic, **settings) as first:
        await first.ready()
        first.signal(signal.SIGKILL)
        await first.exit_code()
    with Service(tmp_path / "b", bootstrap, topic, **settings) as second:
        await second.ready()
        await admin.create_partitions({topic: NewPartitions(6)})
        await publish(bootstrap, topic, [Step("k", n) for n in range(5)], partition=5)
        await until(lambda: len(calls(tmp_path / "b" / "effects")) == 5, "the new partition is read")
        assert await second.stop() == 0


async def test_a_process_that_was_stopped_beyond_its_session_begins_nothing_more(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """It has thousands of records at hand when it comes back, and another process has handled them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    steps = [Step(f"k{n % 500}", n // 500, work_s=0.0, fate="reject" if n % 100 == 7 else "ok") for n in range(COUNT)]
    await publish(bootstrap, topic, steps)
    settings = {"group": topic, "stream__partition_records_max": 20_000}
    frozen, other = tmp_path / "a" / "effects", tmp_path / "b" / "effects"
    with Service(tmp_path / "a", bootstrap, topic, **settings) as first:
        await first.ready()
        await until(lambda: len(_lines(frozen)) > 2_000, "it works")
        first.signal(signal.SIGSTOP)
        with Service(tmp_path / "b", bootstrap, topic, **settings) as second:
            done = len(_begun(frozen))
            await until(lambda: len(_begun(frozen) | _begun(other)) == COUNT, "the other has done the rest")
            before = _lines(frozen)
            first.signal(signal.SIGCONT)
            await first.ready()
            await until(lambda: "gave up" in first.log.read_text(), "it has noticed")
            await asyncio.sleep(2.0)  # nothing is to happen
            stale = [line for line in _lines(frozen)[len(before) :] if line.startswith("begin")]
            print(f"begun before {done}, after {len(stale)}")
            assert len(stale) <= 1  # the one that was about to begin when the process was stopped
            assert await second.stop() == 0
        assert await first.stop() == 0
    check_order(calls(other))


def _lines(effects: Path) -> list[str]:
    return effects.read_text().splitlines() if effects.exists() else []


def _begun(effects: Path) -> set[tuple[str, str]]:
    return {(line.split()[1], line.split()[2]) for line in _lines(effects) if line.startswith("begin")}
