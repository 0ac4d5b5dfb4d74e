"""The service on a real Kafka, as a process that is stopped, killed and joined by others."""

import json
import signal
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc import Event
from tests.integration.harness import (
    Service,
    calls,
    check_order,
    committed,
    duplicates,
    get,
    publish,
    read_all,
    until,
    until_true,
)
from tests.integration.shop import Bulk, Stall, Step

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.usefixtures("reader")]

KEYS, EACH = 100, 40


def steps() -> list[Step]:
    return [Step(key=f"k{key}", n=n) for n in range(EACH) for key in range(KEYS)]


def finished(folder: Path) -> int:
    return len({(call.key, call.n) for call in calls(folder / "effects") if call.ended})


async def part_done(folder: Path, share: float, of: int = KEYS * EACH) -> None:
    await until(lambda: finished(folder) >= share * of, f"{share:.0%} of the records are handled")


async def test_a_killed_worker_loses_nothing_and_breaks_no_order(tmp_path: Path, bootstrap: str, topic: str) -> None:
    with Service(tmp_path, bootstrap, topic) as victim, Service(tmp_path, bootstrap, topic) as survivor:
        await victim.ready()
        await survivor.ready()
        await publish(bootstrap, topic, steps())
        await part_done(tmp_path, 0.3)
        victim.signal(signal.SIGKILL)
        await part_done(tmp_path, 1.0)
        assert await survivor.stop() == 0
    found = calls(tmp_path / "effects")
    check_order(found)
    assert {call.pid for call in found} == {victim.pid, survivor.pid}


async def test_sigterm_under_load_duplicates_nothing(
    tmp_path: Path, bootstrap: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    await publish(bootstrap, topic, steps())
    for share in (0.2, 0.5, 1.0):
        with Service(tmp_path, bootstrap, topic) as service:
            await service.ready()
            await part_done(tmp_path, share)
            assert await service.stop() == 0
    found = calls(tmp_path / "effects")
    check_order(found)
    assert duplicates(found) == {}
    assert [call for call in found if not call.ended] == []
    assert sum((await committed(admin, "test", topic)).values()) == KEYS * EACH


async def test_a_rebalance_with_work_in_flight_neither_overlaps_nor_inverts_a_key(
    tmp_path: Path, bootstrap: str, topic: str
) -> None:
    mixed: list[Event] = [Bulk(key=f"b{n % 20}", n=n // 20) for n in range(2_000)]
    with Service(tmp_path, bootstrap, topic) as first:
        await first.ready()
        await publish(bootstrap, topic, [*steps(), *mixed])
        await part_done(tmp_path, 0.1, 6_000)
        with Service(tmp_path, bootstrap, topic) as second:
            await second.ready()
            await part_done(tmp_path, 0.5, 6_000)
            assert await second.stop() == 0
        await part_done(tmp_path, 1.0, 6_000)
        assert await first.stop() == 0
    found = calls(tmp_path / "effects")
    check_order(found)
    assert duplicates(found) == {}


async def test_dead_letters_that_cannot_be_written_hold_back_their_partition(
    tmp_path: Path, bootstrap: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    with Service(tmp_path, bootstrap, topic, stream__commit_interval_s=0.2) as service:
        address = await service.ready()
        await admin.delete_topics([f"{topic}.dlq"])
        good = [Step(key="good", n=n) for n in range(50)]
        await publish(bootstrap, topic, [*good[:10], Step(key="bad", n=0, fate="reject"), *good[10:]], partition=1)
        await publish(bootstrap, topic, good, partition=2)

        async def refused() -> bool:
            partitions = json.loads(get(f"http://{address}/debug/partitions")[1])
            return [one["blocked"] for one in partitions if one["partition"] == 1] == ["dead_letters_refused"]

        await until_true(refused, "the partition is blocked")
        assert (await committed(admin, "test", topic)).get(1, 0) <= 10
        assert (await committed(admin, "test", topic))[2] == 50
        await until(lambda: get(f"http://{address}/readyz")[0] == 503, "the service says it is not ready")
        await admin.create_topics([NewTopic(f"{topic}.dlq", 1, 1)])

        async def caught_up() -> bool:
            return (await committed(admin, "test", topic)).get(1) == 51

        await until_true(caught_up, "the partition goes on")
        assert await service.stop() == 0
    letters = await read_all(bootstrap, f"{topic}.dlq")
    assert {letter.key for letter in letters} == {b"bad"}
    headers = dict(letters[0].headers)
    assert headers["__streamproc.errors.condition"] == b"refused"
    assert headers["__streamproc.errors.offset"] == b"10"
    assert headers["__connect.errors.topic"] == topic.encode()


async def test_a_call_that_outlives_the_grace_is_delivered_again(tmp_path: Path, bootstrap: str, topic: str) -> None:
    await publish(bootstrap, topic, [Step(key="k", n=0), Step(key="k", n=1, fate="hang")])
    with Service(tmp_path, bootstrap, topic, stream__grace_s=1) as service:
        await until(lambda: len(calls(tmp_path / "effects")) == 2, "the second call begins")
        assert await service.stop() == 4
    with Service(tmp_path, bootstrap, topic) as service:
        await until(lambda: len(calls(tmp_path / "effects")) == 3, "it is delivered again")
        service.signal(signal.SIGTERM)
        await until(lambda: any("stopping" in entry["message"] for entry in service.logged()), "it is stopping")
        service.signal(signal.SIGTERM)
        assert await service.exit_code() == 128 + signal.SIGTERM
    assert [call.n for call in calls(tmp_path / "effects")] == [0, 1, 1]


async def test_a_thread_that_does_not_end_does_not_keep_the_process(tmp_path: Path, bootstrap: str, topic: str) -> None:
    await publish(bootstrap, topic, [Stall(key="k", n=0)])
    with Service(tmp_path, bootstrap, topic, stream__grace_s=1) as service:
        await until(lambda: len(calls(tmp_path / "effects")) == 1, "the call begins")
        assert await service.stop() == 4


async def test_worker_processes_have_one_fate(tmp_path: Path, bootstrap: str, topic: str) -> None:
    with Service(tmp_path, bootstrap, topic, stream__workers=2, stream__consumers=2) as service:
        one_each = "assigned 1 partitions"
        await until(lambda: service.log.read_text().count(one_each) >= 4, "each of four consumers has a partition")
        await publish(bootstrap, topic, steps())
        await part_done(tmp_path, 1.0)
        assert await service.stop() == 0
    found = calls(tmp_path / "effects")
    check_order(found)
    assert len({call.pid for call in found}) == 2


async def test_what_the_service_shows(tmp_path: Path, bootstrap: str, topic: str) -> None:
    secret = "canary-5fd1"
    with Service(tmp_path, bootstrap, topic, kafka__sasl_password=secret) as service:
        address = await service.ready()
        await publish(bootstrap, topic, [Step(key=secret, n=1), f"not json {secret}".encode()])
        letters = 'streamproc_dlq_records_total{condition="json"} 1.0'
        await until(lambda: letters in get(f"http://{address}/metrics")[1], "the bad one is a dead letter")
        metrics = get(f"http://{address}/metrics")[1]
        assert f'streamproc_records_total{{event_type="step",outcome="ok",topic="{topic}"}} 1.0' in metrics
        assert get(f"http://{address}/livez")[0] == 200
        assert secret not in metrics
        assert await service.stop() == 0
    assert secret not in service.log.read_text()
    letter = (await read_all(bootstrap, f"{topic}.dlq"))[0]
    assert letter.value == f"not json {secret}".encode()
    assert all(secret.encode() not in value for _, value in letter.headers)


async def test_a_missing_topic_is_waited_for_in_one_sentence(
    tmp_path: Path, bootstrap: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    missing = f"{topic}-missing"
    with Service(tmp_path, bootstrap, missing) as service:
        await until(lambda: missing in get(f"http://{service.address()}/readyz")[1], "it says which one")
        told = [entry for entry in service.logged() if entry.get("level") == "warning"]
        assert [f"no such topic, or this user may not see it: {missing}" in str(one["message"]) for one in told] == [
            True
        ]
        await admin.create_topics([NewTopic(missing, 1, 1)])
        await publish(bootstrap, missing, [Step(key="k", n=0)])
        await until(lambda: finished(tmp_path) == 1, "its record is handled")
        assert await service.stop() == 0
