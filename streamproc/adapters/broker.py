"""A real Apache Kafka on this machine, for development, the demo and tests.

One node is broker and controller in one Java process, bound to 127.0.0.1. Its folder holds
`server.properties`, `broker.log` (warnings and errors only, so it stays small) and `data`. The broker ends
with the process that started it, even when that is killed, unless it is started detached.
"""

import atexit
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from streamproc.adapters.broker_files import (
    EXTRA,
    HOST,
    KAFKA_VERSION,
    Progress,
    answers,
    check_port,
    find_java,
    format_data,
    free_port,
    kafka_jars,
    last_words,
    prepare,
    quiet,
    settings,
    writing_to,
)
from streamproc.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

IMAGE = f"apache/kafka:{KAFKA_VERSION}"
READY_TIMEOUT_S = 60.0
# Measured: with the first compiler alone it starts a third sooner and needs less CPU for its first million records.
_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # else a killed broker leaves a file in the temporary folder
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)
# Its input ends when the broker's owner is gone, in whatever way; it then kills its process group: the broker
# and itself. As long as it lives, the group's number, the broker's process id, is given to no other process.
_GUARD = ("/bin/sh", "-c", "read -r _; kill -KILL 0", "streamproc-broker-guard")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker answers, which process it is, where its data is, and its Kafka version."""

    bootstrap: str
    pid: int
    data_dir: Path
    version: str


@dataclass(frozen=True, slots=True)
class Launch:
    """How a broker is started: its Java command line, folder and port, and whether it outlives its owner."""

    command: Sequence[str]
    data_dir: Path
    port: int
    detach: bool


class _Handle(ABC):
    """What is the same for every broker one has started; leaving its `with` block stops it."""

    version = KAFKA_VERSION

    def __init__(self, port: int) -> None:
        self.bootstrap = f"{HOST}:{port}"
        self._port = port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def stop(self, timeout_s: float = 15.0) -> None:
        """End the broker in good order, or by force after `timeout_s`; does nothing once it has ended."""

    def _await_answer(self, *, ended: Callable[[], bool], output: Callable[[], bytes]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (gone := ended()) or not answers(self._port):
            if gone or time.monotonic() > deadline:
                failure = "ended while it started" if gone else f"gave no answer in {READY_TIMEOUT_S:.0f} s"
                raise BrokerError(f"Apache Kafka {failure}: {last_words(output().decode(errors='replace'))}")
            time.sleep(0.03)


class RunningBroker(_Handle):
    """An embedded broker; leaving its `with` block stops it."""

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch.port)
        self._launch = launch
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes]
        self._start()

    @property
    def pid(self) -> int:
        """The id of the Java process; another one after `restart`."""
        return self._process.pid

    @property
    def info(self) -> Broker:
        """The facts about this broker as a value."""
        return Broker(self.bootstrap, self.pid, self._launch.data_dir, self.version)

    def stop(self, timeout_s: float = 15.0) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._clean_up()

    def kill(self) -> None:
        """End the broker at once with SIGKILL, as a crash would; `restart` brings it back."""
        self._process.kill()
        self._clean_up()

    def restart(self) -> None:
        """End the broker if it still runs and start it again with the same data and ports."""
        self.stop()
        self._start()

    def _start(self) -> None:
        detach, folder = self._launch.detach, self._launch.data_dir
        with (folder / "broker.log").open("ab") as log:
            log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603
                self._launch.command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=detach,
                process_group=None if detach else 0,  # Ctrl-C is for the owner, who then stops the broker
            )
        try:
            if not detach:
                atexit.register(self.stop)
                self._guard = subprocess.Popen(  # noqa: S603
                    _GUARD,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=self.pid,
                )
            self._await_answer(
                ended=lambda: self._process.poll() is not None,
                output=lambda: (folder / "broker.log").read_bytes()[log_start:],
            )
        except BaseException:
            self.kill()
            raise

    def _clean_up(self) -> None:
        self._process.wait()
        atexit.unregister(self.stop)
        if self._guard:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


def start_broker(
    *,
    data_dir: Path,
    port: int = 0,
    progress: Progress = quiet,
    properties: Mapping[str, str] = MappingProxyType({}),
    detach: bool = False,
) -> RunningBroker:
    """Start Apache Kafka in `data_dir`, new or from an earlier start, and return once it answers.

    `port` 0 takes a free one; `properties` are added to the broker's settings or replace them; a `detach`ed
    broker outlives this process. Raises ConfigError or BrokerError, and then leaves no new `data_dir` behind.
    """
    java, jars = find_java(), kafka_jars(progress=progress)
    command = [str(java), *_JVM, "-cp", os.pathsep.join(map(str, jars))]
    port = check_port(port) if port else free_port()
    data_dir = data_dir.absolute()
    with ExitStack() as undo:
        if not data_dir.exists():
            undo.callback(shutil.rmtree, data_dir, ignore_errors=True)
        with writing_to(data_dir):
            prepare(data_dir, {**settings(HOST, port, free_port(besides=port)), **properties})
        progress(f"starting Apache Kafka {KAFKA_VERSION}")
        format_data(data_dir, command)
        command += ["kafka.Kafka", "server.properties"]
        running = RunningBroker(Launch(command, data_dir, port, detach))
        undo.pop_all()
    return running


class DockerBroker(_Handle):
    """A broker in a container; leaving its `with` block removes the container and its data."""

    def __init__(self, container: "DockerContainer", port: int) -> None:
        super().__init__(port)
        self._container = container
        self._removed = False

    @property
    def pid(self) -> int:
        """The id of the container's first process, as its engine counts."""
        self._container.reload()
        return int(self._container.get_wrapped_container().attrs["State"]["Pid"])

    def stop(self, timeout_s: float = 15.0) -> None:
        if not self._removed:
            self._container.get_wrapped_container().stop(timeout=int(timeout_s))
            self._container.stop()
        self._removed = True

    def kill(self) -> None:
        """End the broker at once with SIGKILL, as a crash would; `restart` brings it back."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """End the broker if it still runs and start it again with the same data and port."""
        self._container.get_wrapped_container().restart()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return once the broker answers; BrokerError with its last words if it ends or takes too long."""
        self._await_answer(
            ended=lambda: self._container.status != "running",
            output=lambda: b"".join(self._container.get_logs()),
        )


def start_docker_broker(
    *, port: int = 0, progress: Progress = quiet, properties: Mapping[str, str] = MappingProxyType({})
) -> DockerBroker:
    """Start Apache Kafka in a container, published on 127.0.0.1 only, and return once it answers.

    `port` and `properties` are those of `start_broker`. Raises ConfigError or BrokerError.
    """
    try:
        from testcontainers.core.container import DockerContainer
    except ImportError:
        raise ConfigError(f"a broker in a container needs an extra: {EXTRA}") from None
    port = check_port(port) if port else free_port()
    options = {**settings("", port, free_port(besides=port)), **properties}
    try:
        container = DockerContainer(IMAGE, env={_variable(name): value for name, value in options.items()})
    except Exception as error:
        raise BrokerError("no container engine answers on this machine: start Docker or Podman") from error
    # The same port inside and outside: one advertised address serves clients and the broker itself.
    container.ports[f"{port}/tcp"] = (HOST, port)  # type: ignore[assignment]
    progress(f"starting {IMAGE} in a container")
    try:
        container.start()
        running = DockerBroker(container, port)
        running.wait_until_ready()
    except BaseException as error:
        container.stop()
        if not isinstance(error, Exception) or isinstance(error, BrokerError):
            raise
        raise BrokerError(f"{IMAGE} could not be started in a container: {error}") from error
    return running


def auto_broker(*, data_dir: Path, progress: Progress = quiet) -> RunningBroker | DockerBroker:
    """Start the embedded broker or, where there can be none, one in a container; BrokerError if neither."""
    try:
        return start_broker(data_dir=data_dir, progress=progress)
    except (BrokerError, ConfigError) as embedded:
        progress(f"no embedded broker: {embedded}")
        try:
            return start_docker_broker(progress=progress)
        except (BrokerError, ConfigError) as container:
            raise BrokerError(f"{embedded}; nor in a container: {container}") from embedded


def _variable(name: str) -> str:
    """Return the environment variable from which the image takes a server property."""
    return "KAFKA_" + name.upper().replace("_", "__").replace("-", "___").replace(".", "_")
