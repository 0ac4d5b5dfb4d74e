"""The embedded broker is a real one: it keeps records, comes back after a crash, and leaves no process behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc.adapters import broker
from streamproc.adapters.broker import RunningBroker, start_broker, start_docker_broker
from streamproc.adapters.broker_files import answers, cache_dir, free_port, kafka_jars
from streamproc.cli.broker import process_began
from streamproc.errors import BrokerError, ConfigError

pytestmark = pytest.mark.broker

ROOT = Path(broker.__file__).parents[2]
OWNER = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without
from streamproc.adapters.broker import start_broker
running = start_broker(data_dir=Path(sys.argv[1]))
print(running.pid, flush=True)
input()
"""
COMMAND = "from streamproc.cli import main; main(prog_name='streamproc')"


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def no_network() -> dict[str, str]:
    dead = f"http://127.0.0.1:{free_port()}"
    return {name: dead for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}


async def create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
        assert [code for _, code, *_ in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, value)


async def consume(bootstrap: str, topic: str, group: str | None = None) -> bytes | None:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest")
    async with consumer:
        record = await consumer.getone()
        value: bytes | None = record.value
        return value


@pytest.fixture(scope="module", autouse=True)
def jars() -> None:
    try:
        kafka_jars()
    except BrokerError as error:
        pytest.skip(str(error))


# --- one broker at a time: these start their own, the later ones share one


def owner(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, data_dir], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_an_owner_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    process, pid = owner(tmp_path / "kafka")
    with process:
        assert process_began(pid)
        process.send_signal(number)
        assert process.wait(30) != 0
        until(lambda: process_began(pid) is None)


def test_it_ends_with_an_owner_that_forgets_it(tmp_path: Path) -> None:
    process, pid = owner(tmp_path / "kafka")
    with process:
        process.communicate("\n", timeout=30)
        assert process.returncode == 0
        assert process_began(pid) is None


def command(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", COMMAND, "broker", *arguments]
    return subprocess.run(line, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=100)


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a user with an empty cache folder, but for the jars."""
    folder = tmp_path / "cache" / "streamproc"
    folder.mkdir(parents=True)
    (folder / "kafka-4.3.1").symlink_to(cache_dir() / "kafka-4.3.1")
    return {"XDG_CACHE_HOME": str(folder.parent)}


def test_the_commands_start_show_and_stop_one_broker(env: Mapping[str, str]) -> None:
    assert command("status", env=env).returncode == 1
    first = command("start", env={**env, **no_network()})
    assert first.returncode == 0, first.stderr
    shown = json.loads(command("status", "--json", env=env).stdout)
    try:
        assert first.stdout == f"{shown['bootstrap']}\n"
        assert answers(port_of(shown["bootstrap"]))
        again = command("start", "--topic", "events", env=env)
        assert (again.returncode, again.stdout) == (0, first.stdout)
        assert "already running" in again.stderr
        assert "created events" in again.stderr
        assert "the topics exist" in command("start", "--topic", "events", env=env).stderr
        other = command("start", "--data-dir", "elsewhere", "--topic", "orders", env=env)
        assert (other.returncode, other.stdout) == (2, "")
        assert f"another broker runs at {shown['bootstrap']}" in other.stderr
    finally:
        stopped = command("stop", env=env)
    assert stopped.stdout == f"stopped the broker at {shown['bootstrap']}, process {shown['pid']}\n"
    assert process_began(shown["pid"]) is None
    assert command("status", env=env).returncode == 1
    assert command("stop", env=env).stdout == "no broker is running\n"


def test_a_port_in_use_is_one_sentence_and_exit_code_2(env: Mapping[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = command("start", "--port", str(port), "--data-dir", str(tmp_path / "kafka"), env=env)
    assert refused.returncode == 2
    assert refused.stderr == f"Error: port {port} on 127.0.0.1 cannot be used: Address already in use\n"
    assert not (tmp_path / "kafka").exists()
    assert command("status", env=env).returncode == 1


def test_a_broker_that_does_not_react_is_ended_by_force(tmp_path: Path) -> None:
    with start_broker(data_dir=tmp_path) as running:
        os.kill(running.pid, signal.SIGSTOP)
        running.stop(timeout_s=0.1)
        assert process_began(running.pid) is None


def test_a_setting_kafka_refuses_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"Invalid value none for configuration num\.network\.threads") as failure:
        start_broker(data_dir=tmp_path / "kafka", properties={"num.network.threads": "none"})
    assert "\n" not in str(failure.value)
    assert os.listdir(tmp_path) == []


def test_a_broker_that_ends_while_it_starts_tells_why(tmp_path: Path) -> None:
    start_broker(data_dir=tmp_path, properties={"node.id": "1"}).stop()
    meta = tmp_path / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match=r"^Apache Kafka ended while it started: .*Stored node id 7"):
        start_broker(data_dir=tmp_path)
    assert meta.exists(), "a folder that was there before is kept"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/kafka cannot be written: Not a directory$"):
        start_broker(data_dir=tmp_path / "file" / "kafka")


@pytest.mark.container
async def test_in_a_container(tmp_path: Path) -> None:
    try:
        running = start_docker_broker()
    except BrokerError as error:
        pytest.skip(str(error))
    with running:
        await create_topic(running.bootstrap, "records")
        await produce(running.bootstrap, "records", b"one")
        running.kill()
        running.restart()
        assert await consume(running.bootstrap, "records") == b"one"


# --- the shared one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with start_broker(data_dir=tmp_path_factory.mktemp("broker") / "kafka") as started:
        yield started
    assert process_began(started.pid) is None
    assert not answers(port_of(started.bootstrap))


async def test_a_record_goes_in_and_comes_out(running: RunningBroker) -> None:
    await create_topic(running.bootstrap, "records")
    await produce(running.bootstrap, "records", b"one")
    assert await consume(running.bootstrap, "records", group="readers") == b"one"


def test_it_listens_on_loopback_only(running: RunningBroker) -> None:
    if not Path("/proc/net/tcp6").exists():
        pytest.skip("needs /proc")
    listening = "0A"
    inodes = {os.readlink(link) for link in Path(f"/proc/{running.pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    addresses = [row[1].partition(":")[0] for row in rows if row[3] == listening and f"socket:[{row[9]}]" in inodes]
    assert len(addresses) == 2
    assert all(address.endswith("0100007F") for address in addresses)


def test_a_second_broker_in_the_same_folder_or_port_is_refused(running: RunningBroker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is in use by another broker$"):
        start_broker(data_dir=running.info.data_dir)
    with pytest.raises(ConfigError, match=r"cannot be used: Address already in use$"):
        start_broker(data_dir=tmp_path / "kafka", port=port_of(running.bootstrap))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_keeps_records_and_address(running: RunningBroker, how: str) -> None:
    before, topic = running.info, f"kept-after-{how}"
    await create_topic(running.bootstrap, topic)
    await produce(running.bootstrap, topic, b"kept")
    getattr(running, how)()
    assert process_began(before.pid) is None
    assert not answers(port_of(running.bootstrap))
    running.restart()
    assert running.bootstrap == before.bootstrap
    assert running.pid != before.pid
    assert await consume(running.bootstrap, topic) == b"kept"


async def test_the_next_start_needs_no_network(running: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    running.stop()
    for name, value in no_network().items():
        monkeypatch.setenv(name, value)
    said = list[str]()
    with start_broker(data_dir=running.info.data_dir, progress=said.append) as other:
        assert said == ["starting Apache Kafka 4.3.1"]
        assert other.bootstrap != running.bootstrap
        assert await consume(other.bootstrap, "records") == b"one"
