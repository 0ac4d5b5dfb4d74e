"""The corpus of bad input through a real Kafka and the service as a process of its own."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from streamproc.stream.deadletter import CONNECT, OURS
from tests.corpus.canary import CANARY, bodies
from tests.corpus.load import Case, cases
from tests.corpus.parts import ORDER, SENSOR, USER, case, encoded
from tests.integration.harness import Service, committed, get, read_all, until_true

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.usefixtures("reader")]

PARTITIONS = 4


async def write(bootstrap: str, topic: str, written: Sequence[Case]) -> None:
    """Case n becomes record n // 4 of partition n % 4. A batch may hold records with neither key nor value."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=1_000_000)
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for one in written[partition::PARTITIONS]:
                added = batch.append(timestamp=None, key=one.key, value=one.value, headers=list(one.headers))
                assert added is not None
            batch.close()
            metadata = await (await producer.send_batch(batch, topic, partition=partition))
            assert metadata.offset == 0
    finally:
        await producer.stop()


def source(letter: Any) -> tuple[dict[str, str], int]:
    """Our headers of a dead letter, each of which is there once, and the number of its case."""
    ours = [(name, (value or b"").decode()) for name, value in letter.headers if name.startswith((OURS, CONNECT))]
    headers = dict(ours)
    assert len(headers) == len(ours)
    return headers, int(headers[OURS + "offset"]) * PARTITIONS + int(headers[OURS + "partition"])


def check_letter(letter: Any, headers: dict[str, str], one: Case) -> None:
    """It is the record, byte for byte, and says why it is there."""
    nothing = one.value is None and one.key is None
    assert (letter.value, letter.key) == (b"" if nothing else one.value, one.key), one.id
    assert (OURS + "value.null" in headers) == nothing, one.id
    assert headers[OURS + "condition"] == one.expected, one.id
    assert one.path in headers[OURS + "message"], one.id
    own = [pair for pair in one.headers if not pair[0].startswith((OURS, CONNECT))]
    assert [pair for pair in letter.headers if not pair[0].startswith((OURS, CONNECT))] == own, one.id


def conditions(scraped: str) -> dict[str, float]:
    """condition -> acknowledged dead letters, as scraped."""
    return {
        sample.labels["condition"]: sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name == "streamproc_dlq_records_total"
    }


async def test_every_case_is_committed_and_every_bad_one_is_kept(
    tmp_path: Path, bootstrap: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    played = cases()
    await write(bootstrap, topic, played)
    ends = {partition: len(played[partition::PARTITIONS]) for partition in range(PARTITIONS)}

    async def all_committed() -> bool:
        return await committed(admin, service.group, topic) == ends

    with Service(tmp_path, bootstrap, topic, app="tests.integration.corpus_app:app") as service:
        address = await service.ready()
        await until_true(all_committed, "all records are committed")
        scraped = get(f"http://{address}/metrics")[1]
        assert await service.stop() == 0
    letters = await read_all(bootstrap, f"{topic}.dlq")
    found: Counter[str] = Counter()
    for letter in letters:
        headers, number = source(letter)
        check_letter(letter, headers, played[number])
        found[played[number].id] += 1
    bad = [one for one in played if one.expected != "ok"]
    assert found == Counter(one.id for one in bad)
    assert conditions(scraped) == Counter(one.expected for one in bad)
    for word in (*(encoded(event)[:24] for event in (USER, SENSOR, ORDER)), "userId", "sensorId", "forged"):
        assert word not in service.log.read_text()
        assert word not in scraped


async def test_neither_log_nor_metrics_show_what_a_record_holds(
    tmp_path: Path, bootstrap: str, topic: str, admin: AIOKafkaAdminClient
) -> None:
    secret = ((CANARY, CANARY.encode()),)
    played = [case("B38", body, "", key=CANARY.encode(), headers=secret) for body in bodies()]
    await write(bootstrap, topic, played)

    async def all_committed() -> bool:
        return sum((await committed(admin, service.group, topic)).values()) == len(played)

    settings = {"log__level": "debug", "app": "tests.integration.corpus_app:app"}
    with Service(tmp_path, bootstrap, topic, **settings) as service:
        address = await service.ready()
        await until_true(all_committed, "all records are committed")
        scraped = get(f"http://{address}/metrics")[1]
        assert await service.stop() == 0
    assert "unknown_type" in scraped
    assert CANARY not in scraped
    assert service.logged()
    assert CANARY not in service.log.read_text()
