"""The commands that talk to Kafka, typed as a person would, against a real one."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streamproc.adapters.kafka_client import KafkaOptions
from streamproc.adapters.kafka_tools import count_between, publish
from streamproc.errors import BrokerError
from streamproc.model import OutRecord
from tests.integration.harness import ROOT, Service, until

pytestmark = pytest.mark.broker


class Shell:
    """Runs `streamproc` with a topic and a broker set."""

    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        self._sets = ["--set", f"kafka.bootstrap_servers={bootstrap}", "--set", f"stream.topics={topic}"]
        self._sets += ["--set", "kafka.group_id=test"]
        self._folder = folder
        self.complaint = ""

    def __call__(self, *words: str, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "streamproc", *words, *self._sets],
            cwd=ROOT,
            env={**os.environ, "EFFECTS": str(self._folder / "effects")},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        self.complaint = done.stderr
        return done.stdout


@pytest.fixture
def shell(bootstrap: str, topic: str, tmp_path: Path) -> Shell:
    return Shell(bootstrap, topic, tmp_path)


async def test_a_day_with_the_commands(shell: Shell, bootstrap: str, topic: str, tmp_path: Path) -> None:
    events = [{"type": "step", "key": f"k{n}", "n": n, "fate": "reject" if n == 3 else "ok"} for n in range(10)]
    shell("publish", "--key", "key", stdin="\n".join(json.dumps(event) for event in events))
    with Service(tmp_path, bootstrap, topic) as service:
        await service.ready()
        await until(lambda: behind(shell) == 0, "everything is committed")
        assert await service.stop() == 0
    (letter,) = json.loads(shell("dlq", "ls", "--json"))
    assert (letter["condition"], letter["event_type"]) == ("refused", "step")
    shown = shell("dlq", "show", f"{topic}.dlq", str(letter["partition"]), str(letter["offset"]))
    assert "__streamproc.errors.condition" in shown
    raw = shell("dlq", "show", f"{topic}.dlq", str(letter["partition"]), str(letter["offset"]), "--raw")
    assert json.loads(raw)["kinesis"]["data"]
    table = shell("lag")
    assert topic in table


def behind(shell: Shell) -> int:
    """Records not committed."""
    return sum(one["lag"] for one in json.loads(shell("lag", "--json")))


def test_an_offset_that_is_not_there_is_one_sentence(shell: Shell, topic: str) -> None:
    shell("dlq", "show", f"{topic}.dlq", "0", "7", code=2)


async def test_a_dead_letter_that_cannot_be_read_is_one_sentence(shell: Shell, bootstrap: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type="gzip", max_request_size=2**24) as client:
        await client.send_and_wait(f"{topic}.dlq", bytes(5_000_000))
    shell("dlq", "ls", "--set", "kafka.inflated_bytes_max=1000000", code=1)
    problem = "it inflates to more than kafka.inflated_bytes_max = 1000000 bytes"
    assert shell.complaint == f"Error: a record cannot be read: {problem}\n"


async def test_the_records_of_a_time_are_counted(bootstrap: str, topic: str) -> None:
    options = KafkaOptions(bootstrap_servers=[bootstrap])
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    minutes = [noon + timedelta(minutes=n) for n in range(10)]
    records = [OutRecord(topic, b"v", b"%d" % n, (), int(one.timestamp() * 1000)) for n, one in enumerate(minutes)]
    assert [count async for count in publish(options, topic, records=records)] == [10]
    for first, last, count in ((0, 9, 9), (0, 10, 10), (2, 5, 3), (-9, 0, 0), (10, 99, 0), (3, 3, 0)):
        times = {"since": noon + timedelta(minutes=first), "until": noon + timedelta(minutes=last)}
        assert await count_between(options, [topic], **times) == count
    with pytest.raises(BrokerError, match="no such topic"):
        await count_between(options, [f"{topic}-none"], since=noon, until=noon)
