"""Dead letters on a real broker: taken whatever their records' times, and never lost to a topic that takes little."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.harness import Service, committed, get, read_all, until_true

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

DAY_MS = 86_400_000
BAD = b"not json"


async def make(admin: AIOKafkaAdminClient, name: str, **letters: str) -> None:
    """A topic that takes any time, and its dead-letter topic."""
    any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    made = [NewTopic(name, 1, 1, topic_configs=any_time), NewTopic(f"{name}.dlq", 1, 1, topic_configs=letters)]
    await admin.create_topics(made)


async def write(bootstrap: str, topic: str, **record: Any) -> None:
    """Writes one record that is no event."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    await producer.send_and_wait(topic, **{"value": BAD, "key": b"k", **record})
    await producer.stop()


async def settled(admin: AIOKafkaAdminClient, topic: str, offset: int) -> None:
    """Waits for a commit."""

    async def reached() -> bool:
        return (await committed(admin, "test", topic)).get(0) == offset

    await until_true(reached, f"offset {offset} is committed")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"letters-{time.monotonic_ns()}"


async def test_a_dead_letter_has_the_time_of_its_sending(
    tmp_path: Path, bootstrap: str, admin: AIOKafkaAdminClient, name: str
) -> None:
    """With the record's own, it would be refused for ever, or deleted as soon as retention looks."""
    await make(admin, name, **{"retention.ms": "3600000"})
    now = int(time.time() * 1000)
    stamps = [now + 10 * DAY_MS, 1_000, now * 1_000, now]
    for stamp in stamps:
        await write(bootstrap, name, timestamp_ms=stamp)
    with Service(tmp_path, bootstrap, name, stream__commit_interval_s=0.2) as service:
        await service.ready()
        await settled(admin, name, len(stamps))
        assert await service.stop() == 0
    letters = await read_all(bootstrap, f"{name}.dlq")
    assert all(abs(letter.timestamp - now) < DAY_MS // 24 for letter in letters)
    assert [int(dict(letter.headers)["__streamproc.errors.timestamp"]) for letter in letters] == stamps


async def test_a_topic_that_takes_too_little_blocks_the_partition_says_so_and_loses_nothing(
    tmp_path: Path, bootstrap: str, admin: AIOKafkaAdminClient, name: str
) -> None:
    await make(admin, name, **{"max.message.bytes": "100"})
    await write(bootstrap, name)
    with Service(tmp_path, bootstrap, name, stream__commit_interval_s=0.2) as service:
        address = await service.ready()

        async def blocked() -> bool:
            return [one["blocked"] for one in json.loads(get(f"http://{address}/debug/partitions")[1])] == [
                "dead_letters_refused"
            ]

        await until_true(blocked, "the partition is blocked")
        assert (await committed(admin, "test", name)).get(0, 0) == 0
        assert "raise max.message.bytes of that topic" in service.log.read_text()
        await admin.delete_topics([f"{name}.dlq"])
        await admin.create_topics([NewTopic(f"{name}.dlq", 1, 1)])
        await settled(admin, name, 1)
        assert await service.stop() == 0
    assert [letter.value for letter in await read_all(bootstrap, f"{name}.dlq")] == [BAD]


@pytest.mark.parametrize(
    ("configs", "record", "value"),
    [
        ({"max.message.bytes": "10000"}, {"value": b"x" * 20_000}, b"x" * 1_024),
        ({"max.message.bytes": "2000"}, {"value": BAD, "headers": [("h", b"x" * 3_000)]}, BAD),
        ({"max.message.bytes": "400"}, {"value": b"x" * 1_000}, b""),
        ({"cleanup.policy": "compact"}, {"key": None}, BAD),
    ],
)
async def test_what_the_topic_does_not_take_whole_is_a_smaller_letter(
    tmp_path: Path,
    bootstrap: str,
    admin: AIOKafkaAdminClient,
    name: str,
    configs: dict[str, str],
    record: dict[str, Any],
    value: bytes,
) -> None:
    await make(admin, name, **configs)
    await write(bootstrap, name, **record)
    with Service(tmp_path, bootstrap, name, stream__commit_interval_s=0.2) as service:
        await service.ready()
        await settled(admin, name, 1)
        assert await service.stop() == 0
    (letter,) = await read_all(bootstrap, f"{name}.dlq")
    assert letter.value == value
    assert dict(letter.headers)["__streamproc.errors.offset"] == b"0"
    assert dict(letter.headers)["__streamproc.errors.condition"] == b"json"
