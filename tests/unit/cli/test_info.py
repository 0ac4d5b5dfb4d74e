"""`healthcheck`, asked of a real server, and `version`."""

import asyncio
import re
from collections.abc import Mapping, Sequence

from click.testing import Result
from prometheus_client import CollectorRegistry

from streamproc.http.ops import OpsOptions, serve
from streamproc.model import Snapshot, TopicPartition
from tests.unit.cli.conftest import Streamproc


class Process:
    """A Health with one answer to both probes."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def live(self) -> str:
        return self.reason

    def ready(self) -> str:
        return "not yet"

    def snapshots(self) -> Sequence[Snapshot]:
        return []

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        return {}

    def now(self) -> float:
        return 0.0


async def ask(streamproc: Streamproc, process: Process, path: str = "") -> Result:
    async with serve(OpsOptions(listen="127.0.0.1:0"), process, CollectorRegistry()) as address:
        how = ["--url", f"http://{address}{path}"] if path else ["--set", f"ops.listen={address}"]
        return await asyncio.to_thread(streamproc, "healthcheck", *how)


async def test_a_process_that_lives_is_0(streamproc: Streamproc) -> None:
    result = await ask(streamproc, Process())
    assert (result.exit_code, result.output) == (0, "ok\n")


async def test_a_process_that_must_be_restarted_is_1_and_says_why(streamproc: Streamproc) -> None:
    result = await ask(streamproc, Process("no progress for 60 s"))
    assert result.exit_code == 1
    assert result.stderr.endswith("/livez: 503 no progress for 60 s\n")


async def test_another_address_may_be_asked(streamproc: Streamproc) -> None:
    result = await ask(streamproc, Process(), "/readyz")
    assert result.exit_code == 1
    assert result.stderr.endswith("/readyz: 503 not yet\n")
    assert (await ask(streamproc, Process(), "/nowhere")).stderr.endswith("/nowhere: 404\n")


def test_no_answer_is_1(streamproc: Streamproc) -> None:
    result = streamproc("healthcheck", "--set", "ops.listen=127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("http://127.0.0.1:1/livez: no answer (")


def test_an_address_for_all_interfaces_is_asked_here(streamproc: Streamproc) -> None:
    assert streamproc("healthcheck", "--set", "ops.listen=0.0.0.0:1").stderr.startswith("http://127.0.0.1:1/livez")
    assert streamproc("healthcheck", "--set", "ops.listen=[::]:1").stderr.startswith("http://[::1]:1/livez")


def test_what_cannot_be_asked_is_a_configuration_error(streamproc: Streamproc) -> None:
    assert streamproc("healthcheck", "--set", "ops.listen=").exit_code == 2
    assert streamproc("healthcheck", "--url", "file:///etc/hostname").exit_code == 2
    result = streamproc("healthcheck", "--url", "http://me:canary@127.0.0.1:1/livez")
    assert (result.exit_code, "canary" in result.output + result.stderr) == (2, False)


def test_version(streamproc: Streamproc) -> None:
    assert re.fullmatch(r"streamproc \S.*, Python 3\.\d+\.\d+, aiokafka 0\.14\.\d+\n", streamproc("version").stdout)
