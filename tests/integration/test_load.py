"""The load generator as people run it, and at a Kafka that stalls."""

import asyncio
import json
import signal
import sys
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry

from bench.generate import records
from bench.load import Load, Plan, mix_of, opened
from bench.load_report import Outcome
from bench.load_writer import Writer
from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_topics import partition_counts
from streamproc.http.ops import OpsOptions, serve
from tests.integration.harness import ROOT, Service, publish, read_all, until, until_true
from tests.unit.bench.test_load_observer import Process

pytestmark = pytest.mark.broker

APP = "tests.integration.corpus_app:app"


async def shell(*words: str) -> asyncio.subprocess.Process:
    """`python -m bench load`, begun."""
    command = (sys.executable, "-m", "bench", "load", *words)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)


async def others(bootstrap: str, topic: str) -> None:
    """Records of somebody else, in all partitions."""
    await publish(bootstrap, topic, [record.value for record in records(203, 7, mix_of("sensor=1"))])


async def test_each_record_is_followed_to_its_end(tmp_path: Path, bootstrap: str, topic: str) -> None:
    mix, asked = "sensor=0.6,order=0.2,user=0.1", 4_000
    bad = sum(record.kind == "bad" for record in records(asked, 3, mix_of(mix)))
    await others(bootstrap, topic)
    with Service(tmp_path, bootstrap, topic, app=APP) as service:
        address = await service.ready()
        words = ["--bootstrap", bootstrap, "--topic", topic, "--rate", "3200", "--for", "1.25s", "--seed", "3"]
        words += ["--mix", mix, "--metrics", f"http://{address}/metrics", "--json"]
        load = await shell(*words)
        out, err = await load.communicate()
        assert await service.stop() == 0
    assert load.returncode == 0, err.decode()
    assert err.decode().startswith("sent ")
    found = json.loads(out.splitlines()[-1])
    counts = ("sent", "acknowledged", "handled", "failed", "not_acknowledged", "dead_letters")
    assert [found[name] for name in counts] == [asked, asked, asked, 0, 0, bad]
    assert 0 < found["end_to_end_ms"]["p50"] <= found["end_to_end_ms"]["max"]
    assert found["poll_interval_ms"]["p50"] > 0


class Noted:
    """Writes down which offset each record got; its turn is its number."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[int, int], int] = {}
        self.batches = 0

    def acknowledged(self, partition: int, base: int, turns: "array[float]") -> None:
        self.offsets |= {(partition, base + place): int(turn) for place, turn in enumerate(turns)}
        self.batches += 1

    def failed(self, turns: "array[float]", error: BaseException) -> None:
        raise error


async def test_the_offset_of_each_record_is_known(bootstrap: str, topic: str) -> None:
    await others(bootstrap, topic)
    made, noted = list(records(3_000, 1, mix_of("sensor=1"))), Noted()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=20_000)
    await producer.start()
    writers = [Writer(producer, topic, partition, noted) for partition in range(4)]
    sending = [asyncio.create_task(writer.send()) for writer in writers]
    for number, record in enumerate(made):
        writers[number % 3].add(record, float(number))
        if number % 500 == 499:
            for writer in writers:
                writer.flush()
            await asyncio.sleep(0)
    await until(lambda: len(noted.offsets) == len(made), "all is acknowledged")
    for task in sending:
        task.cancel()
    await producer.stop()
    values = {(record.partition, record.offset): record.value for record in await read_all(bootstrap, topic)}
    assert {place: values[place] for place in noted.offsets} == {
        place: made[number].value for place, number in noted.offsets.items()
    }
    assert noted.batches > len(made) * len(made[0].value or b"") // 20_000


def plan(bootstrap: str, topic: str, seconds: float, **more: Any) -> Plan:
    return Plan(bootstrap, topic, 5_000, seconds, mix_of("sensor=1"), **more)


@asynccontextmanager
async def running(chosen: Plan) -> AsyncIterator[tuple[Load, "asyncio.Task[Outcome]"]]:
    """A load that runs."""
    async with opened(chosen) as load:
        ended = asyncio.create_task(load.run(asyncio.Event()))
        yield load, ended
        ended.cancel()


async def test_a_stall_is_not_hidden_by_sending_less(bootstrap: str, topic: str, admin: AIOKafkaAdminClient) -> None:
    async def made_again() -> bool:
        return bool((await admin.create_topics([NewTopic(topic, 4, 1)])).topic_errors[0][1] == 0)

    async with running(plan(bootstrap, topic, 1.5)) as (load, ended):
        await until(lambda: load.found.acknowledged > 0, "Kafka takes records")
        await admin.delete_topics([topic])
        await until(lambda: load.found.unacknowledged >= 2_000, "records wait for their acknowledgement")
        await until_true(made_again, "the topic is there again")
        found = await ended
    assert found.sent == found.asked == found.acknowledged == found.acknowledgement_ms.total == 7_500


async def test_a_kafka_that_stays_silent_does_not_hold_the_end_up(
    bootstrap: str, topic: str, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.load.STOP_S", 0.2)
    monkeypatch.setattr("bench.load.UNACKNOWLEDGED_MAX", 1_000)
    monkeypatch.setattr("bench.load.OVERTIME_S", 0.1)
    async with opened(plan(bootstrap, topic, 0.6, patience_s=0.1)) as load:
        await admin.delete_topics([topic])
        found = await load.run(asyncio.Event())
    assert found.held_back
    assert found.unacknowledged >= 1_000
    assert found.acknowledged + found.unacknowledged == found.sent < found.asked
    assert found.acknowledgement_ms.total == found.acknowledged


async def test_what_kafka_refuses_has_failed(bootstrap: str, topic: str, admin: AIOKafkaAdminClient) -> None:
    small = f"{topic}.small"
    await admin.create_topics([NewTopic(small, 2, 1, topic_configs={"max.message.bytes": "100"})])
    async with asyncio.timeout(30):
        while not await partition_counts(KafkaOptions(bootstrap_servers=[bootstrap]), [small]):
            await asyncio.sleep(0)
    async with running(plan(bootstrap, small, 0.2)) as (_load, ended):
        found = await ended
    assert (found.sent, found.failed, found.acknowledged) == (1_000, 1_000, 0)
    assert list(found.failures) == ["MessageSizeTooLargeError"]


async def test_a_worker_that_goes_away_leaves_the_acknowledgements(
    bootstrap: str, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Process(1, 1, 1, 1, topic=topic)
    async with AsyncExitStack() as service:
        ops = serve(OpsOptions(listen="127.0.0.1:0"), process, CollectorRegistry())
        address = await service.enter_async_context(ops)
        async with running(plan(bootstrap, topic, 1.0, metrics=(f"http://{address}/metrics",))) as (load, ended):
            await until(lambda: load.found.handled == 4, "the first record of each partition is handled")
            await service.aclose()
            found = await ended
    assert (found.sent, found.acknowledged, found.handled) == (5_000, 5_000, 4)
    assert found.lost_sight
    assert found.dead_letters is None
    assert "going on with acknowledgements" in capsys.readouterr().err


async def test_ctrl_c_shows_what_was_measured(bootstrap: str, topic: str) -> None:
    load = await shell("--bootstrap", bootstrap, "--topic", topic, "--rate", "500", "--for", "1h", "--json")
    assert load.stderr
    assert (await load.stderr.readline()).startswith(b"sent ")
    load.send_signal(signal.SIGINT)
    out, _ = await load.communicate()
    assert load.returncode == 130
    assert b"Broken off" in out
    found = json.loads(out.splitlines()[-1])
    assert found["interrupted"]
    assert 0 < found["acknowledged"] <= found["sent"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--topic", "load-nowhere"], "no topic 'load-nowhere' on {}; create it first"),
        (["--mix", "sensor=2"], "--mix sensor=2: the shares sum to 2, which is more than 1"),
    ],
)
async def test_what_cannot_be_is_one_sentence(words: list[str], sentence: str, bootstrap: str) -> None:
    load = await shell("--bootstrap", bootstrap, *words)
    out, err = await load.communicate()
    assert (load.returncode, out, err.decode()) == (2, b"", f"Error: {sentence.format(bootstrap)}\n")
