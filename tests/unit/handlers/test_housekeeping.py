"""Old files: what goes, what stays, and what a failure leaves."""

import gzip
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import housekeeping
from handlers.housekeeping import archive_old, delete_old

NOON = 1_800_000_000.0
BYTES = os.urandom(5_000_000)


def made(folder: Path, name: str, age_s: float, content: bytes = b"x") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (NOON - age_s, NOON - age_s))
    return file


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


def test_old_files_are_deleted_and_new_ones_stay(tmp_path: Path) -> None:
    for name, age_s in (("old", 1), ("deep/er/old", 1000), ("new", 0), ("deep/new", -5)):
        made(tmp_path, name, age_s)
    assert delete_old(tmp_path, NOON) == 2
    assert names(tmp_path) == ["deep/new", "new"]
    assert delete_old(tmp_path, NOON) == 0


def test_a_folder_that_is_not_there_has_no_old_files(tmp_path: Path) -> None:
    assert (delete_old(tmp_path / "none", NOON), archive_old(tmp_path / "none", NOON)) == (0, 0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    kept = made(tmp_path, "outside/kept.log", 1000)
    inside = tmp_path / "inside"
    inside.mkdir()
    for link, target in (("file.log", kept), ("folder", kept.parent), ("broken.log", tmp_path / "none")):
        (inside / link).symlink_to(target)
        os.utime(inside / link, (NOON - 9, NOON - 9), follow_symlinks=False)
    assert archive_old(inside, NOON) == 0
    assert delete_old(inside, NOON) == 3
    assert (list(inside.iterdir()), names(tmp_path / "outside")) == ([], ["kept.log"])


def test_what_is_no_file_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")  # to read it would wait for ever
    made(tmp_path, "folder.log/a.log", 1)
    for path in tmp_path.iterdir():
        os.utime(path, (NOON - 9, NOON - 9))
    assert archive_old(tmp_path, NOON) == 1
    assert names(tmp_path) == ["folder.log/a.log.gz", "pipe.log"]


@pytest.mark.parametrize("work", [delete_old, archive_old])
def test_what_somebody_else_deletes_meanwhile_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Path, float], int]
) -> None:
    for name in ("a.log", "b.log", "c.log"):
        made(tmp_path, name, 1)
    lstat = Path.lstat

    def late(file: Path) -> os.stat_result:
        if file.name == "b.log":
            file.unlink()
        return lstat(file)

    monkeypatch.setattr(Path, "lstat", late)
    assert work(tmp_path, NOON) == 2
    assert not {"a.log", "b.log", "c.log"} & set(names(tmp_path))


def test_a_log_that_grows_while_it_is_archived_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, compress = made(tmp_path, "a.log", 1), housekeeping._compress

    def slow(log: Path, archive: Path) -> None:
        compress(log, archive)
        with log.open("ab") as still_open:
            still_open.write(b"y")

    monkeypatch.setattr(housekeeping, "_compress", slow)
    with pytest.raises(OSError, match="does not hold"):
        archive_old(tmp_path, NOON)
    assert log.read_bytes() == b"xy"
    monkeypatch.undo()
    assert archive_old(tmp_path, NOON) == 1
    assert gzip.decompress((tmp_path / "a.log.1.gz").read_bytes()) == b"xy"


def test_a_large_log_takes_little_memory(tmp_path: Path) -> None:
    with made(tmp_path, "a.log", 1).open("r+b") as log:
        log.truncate(200_000_000)
    os.utime(tmp_path / "a.log", (NOON - 1, NOON - 1))
    tracemalloc.start()
    try:
        assert archive_old(tmp_path, NOON) == 1
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_many_files_are_deleted(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / str(number)).touch()
    assert delete_old(tmp_path, time.time() + 1) == 20_000
    assert names(tmp_path) == []


def test_old_logs_become_archives_that_hold_the_same(tmp_path: Path) -> None:
    for name, age_s in (("a.log", 1), ("deep/b.log", 1), ("new.log", 0), ("other.txt", 1), ("c.log.gz", 1)):
        made(tmp_path, name, age_s, BYTES)
    assert archive_old(tmp_path, NOON) == 2
    assert names(tmp_path) == ["a.log.gz", "c.log.gz", "deep/b.log.gz", "new.log", "other.txt"]
    for name in ("a.log.gz", "deep/b.log.gz"):
        assert gzip.decompress((tmp_path / name).read_bytes()) == BYTES


def test_an_archive_that_is_complete_is_not_written_again(tmp_path: Path) -> None:
    made(tmp_path, "a.log", 1)
    (tmp_path / "a.log.gz").write_bytes(before := gzip.compress(b"x", 1))
    assert archive_old(tmp_path, NOON) == 1
    assert names(tmp_path) == ["a.log.gz"]
    assert (tmp_path / "a.log.gz").read_bytes() == before


@pytest.mark.parametrize("other", [gzip.compress(b"another log"), gzip.compress(BYTES)[:1_000], b"no archive", b""])
def test_no_archive_is_overwritten(tmp_path: Path, other: bytes) -> None:
    made(tmp_path, "a.log", 1)
    (tmp_path / "a.log.gz").write_bytes(other)
    (tmp_path / "a.log.1.gz").write_bytes(other)
    assert archive_old(tmp_path, NOON) == 1
    assert (tmp_path / "a.log.gz").read_bytes() == (tmp_path / "a.log.1.gz").read_bytes() == other
    assert gzip.decompress((tmp_path / "a.log.2.gz").read_bytes()) == b"x"


def test_what_a_crash_left_half_written_is_written_again(tmp_path: Path) -> None:
    made(tmp_path, "a.log", 1)
    (tmp_path / "a.log.gz.part").write_bytes(b"half")
    assert archive_old(tmp_path, NOON) == 1
    assert names(tmp_path) == ["a.log.gz"]


def test_a_full_disk_leaves_the_log_and_the_others_are_archived(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.log"):
        made(tmp_path, name, 1, BYTES)
    (tmp_path / "b.log.gz.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        archive_old(tmp_path, NOON)
    assert names(tmp_path) == ["a.log.gz", "b.log", "c.log.gz"]
    assert archive_old(tmp_path, NOON) == 1
    assert names(tmp_path) == ["a.log.gz", "b.log.gz", "c.log.gz"]


def test_what_cannot_be_deleted_lets_the_others_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        made(tmp_path, name, 1)
    unlink = Path.unlink

    def refuse(file: Path, missing_ok: bool = False) -> None:
        if file.name == "b":
            raise PermissionError("b")
        unlink(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError):
        delete_old(tmp_path, NOON)
    assert names(tmp_path) == ["b"]
