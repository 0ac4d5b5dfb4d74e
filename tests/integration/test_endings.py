"""Every ending has one deadline, whatever holds on to the process; and what it answers says who must act."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from streamproc.adapters.broker_files import free_port
from tests.integration.harness import Service, calls, get, publish, until
from tests.integration.shop import Stall
from tests.integration.stubborn_app import Cling

pytestmark = [pytest.mark.timeout(120)]
APP = "tests.integration.stubborn_app:app"
GRACE_S = 1.0
SLACK_S = 3.0
"""What a process may take beyond its grace here, in seconds: it is less than one, but the machine may be busy."""


@pytest.fixture
def silent() -> Iterator[str]:
    """host:port of what takes connections and says nothing."""
    with closing(create_server(("127.0.0.1", 0))) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def ends(service: Service, *, within_s: float) -> int:
    """The exit code of a process that was told to end just now."""
    told = time.monotonic()
    code = await service.exit_code()
    assert time.monotonic() - told < within_s, service.log.read_text()
    return code


async def begun(service: Service) -> None:
    await until(lambda: bool(calls(service.effects)) or service.has_ended, "it begins")


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def errors(service: Service) -> list[str]:
    """What the service itself complains about."""
    ours = [entry for entry in service.logged() if entry.get("logger", "").startswith("streamproc")]
    return [str(entry["message"]) for entry in ours if entry["level"] == "error"]


@pytest.mark.broker
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", ["swallow", "finally", "sleep", "busy", "thread", "stall"])
async def test_a_call_that_does_not_end_is_left_behind_at_the_deadline(
    tmp_path: Path, bootstrap: str, topic: str, way: str, workers: int
) -> None:
    await publish(bootstrap, topic, [Stall(key="k", n=0) if way == "stall" else Cling(key="k", n=0, way=way)])
    held = Service(tmp_path, bootstrap, topic, app=APP, stream__grace_s=GRACE_S, stream__workers=workers)
    with held as service:
        await begun(service)
        service.signal(signal.SIGTERM)
        assert await ends(service, within_s=GRACE_S + SLACK_S) == 4
    told = errors(service)
    assert len(told) == 1, service.log.read_text()
    assert "stream.grace_s = 1" in told[0]
    assert ("stubborn_app.py" if way in ("sleep", "busy") else "call") in told[0]


@pytest.mark.broker
@pytest.mark.parametrize("what", ["close", "close-blocking"])
async def test_services_that_do_not_close_are_left_behind_at_the_deadline(
    tmp_path: Path, bootstrap: str, topic: str, what: str
) -> None:
    env = {"STUBBORN": what}
    with Service(tmp_path, bootstrap, topic, app=APP, env=env, stream__grace_s=GRACE_S) as service:
        await service.ready()
        service.signal(signal.SIGTERM)
        assert await ends(service, within_s=GRACE_S + SLACK_S) == 4
    assert "services" in errors(service)[0]


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once_also_with_a_blocked_loop(
    tmp_path: Path, bootstrap: str, topic: str, number: signal.Signals
) -> None:
    await publish(bootstrap, topic, [Cling(key="k", n=0, way="sleep")])
    with Service(tmp_path, bootstrap, topic, app=APP) as service:
        await begun(service)
        service.signal(number)
        await until(lambda: "stopping" in service.log.read_text(), "it was told")
        service.signal(number)
        assert await ends(service, within_s=SLACK_S) == 128 + number


@pytest.mark.broker
async def test_workers_whose_parent_is_gone_end_at_the_deadline(tmp_path: Path, bootstrap: str, topic: str) -> None:
    await publish(bootstrap, topic, [Cling(key="k", n=0, way="sleep")])
    held = Service(tmp_path, bootstrap, topic, app=APP, stream__grace_s=GRACE_S, stream__workers=2)
    with held as service:
        await begun(service)
        workers = children(service.pid)
        assert len(workers) == 2
        service.signal(signal.SIGKILL)
        told = time.monotonic()
        await until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), "the workers are gone")
        assert time.monotonic() - told < GRACE_S + SLACK_S


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", ["open", "open-blocking"])
async def test_a_signal_while_services_open_ends_it_at_once(tmp_path: Path, what: str, workers: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    env = {"STUBBORN": what}
    with Service(tmp_path, address, "events", app=APP, env=env, stream__workers=workers) as service:
        await begun(service)
        service.signal(signal.SIGTERM)
        assert await ends(service, within_s=SLACK_S) == 0
    assert errors(service) == []


async def test_a_signal_while_kafka_is_silent_ends_it_at_once(tmp_path: Path, silent: str) -> None:
    with Service(tmp_path, silent, "events", app=APP) as service:
        await until(lambda: bool(service.address()) or service.has_ended, "it listens")
        service.signal(signal.SIGTERM)
        assert await ends(service, within_s=SLACK_S) == 0


async def test_kafka_that_is_away_at_the_start_is_waited_for_and_said(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Service(tmp_path, address, "events", app=APP) as service:
        await until(lambda: "waiting for Kafka" in service.log.read_text() or service.has_ended, "it says so")
        status, body = get(f"http://{service.address()}/readyz")
        assert (status, f"waiting for Kafka at {address}" in body) == (503, True)
        assert get(f"http://{service.address()}/livez")[0] == 200
        service.signal(signal.SIGTERM)
        assert await ends(service, within_s=SLACK_S) == 0
    lines = [entry for entry in service.logged() if entry.get("level") in ("warning", "error")]
    ours = [entry for entry in lines if not entry["logger"].startswith("aiokafka")]
    assert len(ours) == 1, service.log.read_text()
    assert len(lines) - len(ours) <= 3
