"""What is done to files that got old. Blocking: call it in a thread."""

import gzip
import hashlib
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple


class Folders(NamedTuple):
    """Where temporary files and logs lie."""

    temporary: Path
    logs: Path


def delete_old(folder: Path, before: float) -> int:
    """Deletes the files below a folder that were last changed before a time (seconds since the epoch): how many.

    Links are deleted, not followed. Raises OSError when a file could not be deleted, after the others were.
    """
    old = _old(folder, "*", before, is_fit=lambda mode: not stat.S_ISDIR(mode))
    return _for_each(old, lambda file: file.unlink())


def archive_old(folder: Path, before: float) -> int:
    """Turns `*.log` files that were last changed before a time into `*.log.gz`, and returns how many.

    A log is deleted when its archive is on disk and holds the same bytes; links stay. Raises OSError when that failed
    for a file, on a full disk, say, after the others were archived.
    """
    return _for_each(_old(folder, "*.log", before, is_fit=stat.S_ISREG), _archive)


def _old(folder: Path, pattern: str, before: float, *, is_fit: Callable[[int], bool]) -> Iterator[Path]:
    """The old files of a kind; one that is gone by now is none."""
    for file in sorted(folder.rglob(pattern)):
        with suppress(FileNotFoundError):
            found = file.lstat()
            if is_fit(found.st_mode) and found.st_mtime < before:
                yield file


def _for_each(files: Iterator[Path], work: Callable[[Path], object]) -> int:
    done, failure = 0, None
    for file in files:
        try:
            work(file)
            done += 1
        except FileNotFoundError:
            pass  # somebody else was faster
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    return done


def _archive(log: Path) -> None:
    """Never over an archive of another log of the same name."""
    for number in count():
        archive = log.with_name(f"{log.name}{f'.{number}' if number else ''}.gz")
        is_new = not archive.exists()
        if is_new:
            _compress(log, archive)
        if _holds(archive, log):
            log.unlink()
            return
        if is_new:
            raise OSError(f"{archive} does not hold what {log} holds")


def _compress(log: Path, archive: Path) -> None:
    unfinished = archive.with_suffix(".gz.part")
    try:
        with log.open("rb") as source, unfinished.open("wb") as target:
            with gzip.GzipFile(log.name, "wb", fileobj=target, mtime=0) as packed:
                shutil.copyfileobj(source, packed)
            target.flush()
            os.fsync(target.fileno())
        unfinished.rename(archive)
    finally:
        unfinished.unlink(missing_ok=True)


def _holds(archive: Path, log: Path) -> bool:
    """Whether an archive can be read, and gives the bytes of a log."""
    with gzip.open(archive) as unpacked, log.open("rb") as source:
        try:
            return _digest(unpacked.read) == _digest(source.read)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False


def _digest(read: Callable[[int], bytes]) -> bytes:
    found = hashlib.sha256()
    while part := read(1_048_576):
        found.update(part)
    return found.digest()
