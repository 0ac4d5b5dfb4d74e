"""The image's steps, run in a folder instead of a container: what the Dockerfile says is what runs here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER = 10001

pytestmark = pytest.mark.timeout(300)


def python_is_for_everybody() -> bool:
    """Whether another user may run this interpreter; not where it lies in somebody's home."""
    return all(folder.stat().st_mode & 0o5 == 0o5 for folder in Path(sys.base_prefix).resolve().parents)


class Image:
    """A folder that is the root of both build stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        self.environment: dict[str, str] = {}

    def build(self, dockerfile: str) -> None:
        """Carries out COPY, RUN, ENV and WORKDIR; fails on what it does not know."""
        for line in re.sub(r"\\\n\s*", " ", dockerfile).splitlines():
            word, _, rest = line.partition(" ")
            if word in ("COPY", "RUN", "ENV", "WORKDIR"):
                getattr(self, word.lower())(rest.strip())
            elif line and word not in {"#", "ARG", "FROM", "LABEL", "VOLUME", "EXPOSE", "STOPSIGNAL", "USER"} | {
                "ENTRYPOINT",
                "CMD",
            }:
                raise AssertionError(f"a step this test does not know: {line}")

    def inside(self, path: str) -> Path:
        """A path of the image."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.folder / path

    def workdir(self, path: str) -> None:
        self.folder = self.inside(path)
        self.folder.mkdir(parents=True, exist_ok=True)

    def env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.environment[name] = value.replace("$PATH", os.environ["PATH"]).replace("/opt", f"{self.root}/opt")

    def copy(self, rest: str) -> None:
        if rest.startswith("--from="):  # both stages are this folder
            return
        *sources, target = rest.split()
        for source in sources:
            found, to = ROOT / source, self.inside(target)
            if found.is_dir():
                shutil.copytree(found, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, to)

    def run(self, command: str) -> None:
        command = re.sub(r"(?<![\w.])/(opt|app|data)\b", rf"{self.root}/\1", command)
        if os.geteuid() != 0:
            command = re.sub(r"&& chown \S+ \S+", "", command)
        done = subprocess.run(command, shell=True, cwd=self.folder, capture_output=True, text=True)  # noqa: S602
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """What the container would run, as its user."""
        return subprocess.Popen(
            [str(self.root / "opt/streamproc/bin/streamproc"), *arguments],
            cwd=self.root / "app",
            env={**self.environment, "STREAMPROC_STORE__URL": f"sqlite:///{self.root}/data/shop.db"},
            user=USER if os.geteuid() == 0 and python_is_for_everybody() else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103  (the image's user must be able to read it)
        built = Image(Path(folder))
        built.build((ROOT / "deploy" / "Dockerfile").read_text())
        yield built


def test_the_app_of_the_image_is_sound(image: Image) -> None:
    with image.start("check", "handlers.app:app", "--set", "auth.jwks_file=keys.json") as checking:
        told, complaints = checking.communicate(timeout=60)
    assert checking.returncode == 0, complaints
    assert "store_readings" in told


def test_an_unprivileged_user_needs_to_write_only_to_data(image: Image) -> None:
    run = image.start(
        *("run", "handlers.app:app", "--only", "stream", "--set", "kafka.bootstrap_servers=127.0.0.1:1"),
        *("--set", f"mail.directory={image.root}/data/mail", "--set", "ops.listen="),
    )
    with run as running:
        assert running.stderr is not None
        lines = iter(running.stderr.readline, "")
        assert any("waiting for Kafka" in line for line in lines)
        running.terminate()
        rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert (image.root / "data" / "shop.db").exists()


def test_no_file_of_the_image_is_left_to_be_compiled_at_start(image: Image) -> None:
    package = next((image.root / "opt/streamproc/lib").glob("python*/site-packages/streamproc"))
    assert {file.stem.partition(".")[0] for file in (package / "__pycache__").iterdir()} >= {"service", "settings"}
