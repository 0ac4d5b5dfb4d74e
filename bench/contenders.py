"""Who takes part: streamproc, the bare loop, and the peers of peers/ that this machine can run."""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.brokers import say
from bench.contest import ROOT, Contender

PEERS = Path(__file__).parent / "peers"
SETUP_LIMIT_S = 900.0
BARE = "bare"
"""The name of the yardstick: all ratios are to it."""


def bare() -> Contender:
    """aiokafka's `getmany` in a loop that drops what it reads."""
    return Contender(BARE, "aiokafka: read and drop", "drop", _program("bare"), ROOT, guarantee="commits nothing")


def ours(mode: str, title: str = "streamproc", *, name: str = "streamproc", **options: int) -> Contender:
    """The whole service; `options` are those of `bench.ours`."""
    return program("ours", mode, title, name=name, **options)


def program(module: str, mode: str, title: str, *, name: str, **options: object) -> Contender:
    """A program of this package, with its options."""
    arguments = [text for option, value in options.items() for text in (f"--{option}", str(value))]
    return Contender(name, title, mode, [*_program(module), *arguments], ROOT)


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", f"bench.{name}"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A folder of peers/: `described` is its peer.toml."""

    folder: Path
    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def contender(self, mode: str) -> Contender:
        """This peer in one of its modes."""
        described, of_mode = self.described, self.described["modes"][mode]
        return Contender(
            name=f"{self.name}-{mode}",
            title=f"{described['title']} {described['version']}{': read and drop' if mode == 'drop' else ''}",
            mode=mode,
            command=[self._resolved(word) for word in described["run"]],
            folder=self.folder,
            rate=of_mode["rate"],
            guarantee=of_mode["guarantee"],
        )

    def _resolved(self, word: str) -> str:
        found = self.folder / word
        return str(found) if word.startswith(".env/") and ":" not in word else word

    def make_ready(self) -> str:
        """Sets the environment up if it is not; returns why it can't be, "" when it is ready."""
        missing = [program for program in self.described["needs"] if shutil.which(program) is None]
        if missing:
            return f"{' and '.join(missing)} not found"
        stamp, wanted = self.folder / ".env" / "ready", self._digest()
        if stamp.is_file() and stamp.read_text() == wanted:
            return ""
        say(f"setting up {self.described['title']}")
        for command in self.described["setup"]:
            words = [self._resolved(word.replace("{python}", sys.executable)) for word in command]
            try:
                done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=SETUP_LIMIT_S)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"setting it up failed: {error}"
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()
                return f"setting it up failed: {words[0]}: {said[-1][:300] if said else 'no message'}"
        stamp.write_text(wanted)
        return ""

    def _digest(self) -> str:
        files = sorted(file for file in self.folder.iterdir() if file.is_file() and file.suffix != ".md")
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def all_peers() -> list[Peer]:
    """The folders of peers/."""
    return [Peer(file.parent, tomllib.loads(file.read_text())) for file in sorted(PEERS.glob("*/peer.toml"))]


def peers(modes: Sequence[str]) -> tuple[list[Contender], dict[str, str]]:
    """The peers in the first of these modes that each offers, set up; and who is left out, with the reason."""
    ready, left_out = [], {}
    for peer in all_peers():
        mode = next((mode for mode in modes if mode in peer.described["modes"]), None)
        if mode is None:
            continue
        reason = peer.make_ready()
        if reason:
            say(f"LEFT OUT: {peer.described['title']}: {reason}")
            left_out[f"{peer.name}-{mode}"] = reason
        else:
            ready.append(peer.contender(mode))
    return ready, left_out
