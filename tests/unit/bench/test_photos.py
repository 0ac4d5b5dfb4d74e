"""Photographs from a seed, how near two pictures are, and how late a loop was."""

import math
import os
import sys
import time
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from PIL import Image

from bench.contest import Contender, ContenderError, Course
from bench.photos import SMALL, made_once, photo, psnr, reference
from bench.programs.resizing import LateMeter, PictureTask, full
from bench.scenarios.pictures import _Once, lateness
from bench.usage import waited_for_cpu_s
from handlers.pictures import resize

TINY = (400, 300)


def plain(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def as_jpeg(image: Image.Image) -> bytes:
    written = BytesIO()
    image.save(written, "JPEG", quality=92)
    return written.getvalue()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr("bench.photos.photo", lambda seed: photo(seed, (1_600, 1_200)))
    return made_once(tmp_path / "photos", 2)


def test_a_seed_makes_the_same_photograph_each_time() -> None:
    one, same, other = (sha256(photo(seed, TINY).tobytes()).digest() for seed in (1, 1, 2))
    assert one == same != other


def test_a_photograph_has_colours_grain_and_as_many_bytes_as_one_of_a_camera() -> None:
    made = photo(3, (1_000, 750))
    assert (made.mode, made.size) == ("RGB", (1_000, 750))
    assert all(high - low > 150 for low, high in made.getextrema())  # type: ignore[misc]
    assert 2.0 < len(as_jpeg(made)) * 8 / (1_000 * 750) < 4.0  # 3 to 6 MB of 12 megapixels


def test_photographs_are_made_once(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in files] == ["1.jpg", "2.jpg"]
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    files[0].with_suffix(".part").write_bytes(b"broken off")
    assert made_once(files[0].parent, 2) == files
    assert [file.read_bytes() for file in files] == before
    monkeypatch.setattr("bench.photos.photo", lambda seed: pytest.fail("made again"))
    made_once(files[0].parent, 2)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(0, 255, 0.0), (100, 101, 48.1308), (100, 110, 28.1308), (110, 100, 28.1308), (7, 7, math.inf)],
)
def test_psnr_is_that_of_the_definition(one: int, other: int, expected: float) -> None:
    assert psnr(plain(one), plain(other)) == pytest.approx(expected, abs=1e-3)


def test_psnr_is_over_all_channels() -> None:
    red = Image.new("RGB", (8, 8), (30, 0, 0))
    assert psnr(red, plain(0)) == pytest.approx(10 * math.log10(255**2 / (30**2 / 3)))


def test_both_ways_come_near_the_full_resize_and_the_fast_one_as_near(files: list[Path]) -> None:
    wanted = reference(files[0])
    near = []
    for function in (full, resize):
        with Image.open(BytesIO(function(files[0].read_bytes()))) as made:
            assert made.size == wanted.size == SMALL
            near.append(psnr(made.convert("RGB"), wanted))
    assert min(near) > 28
    assert abs(near[0] - near[1]) < 0.5
    assert psnr(reference(files[1]), wanted) < 20  # another picture


def test_lateness_is_summed_up() -> None:
    found = lateness({"0.1": 980, "3.0": 10, "9.0": 9, "40.0": 1}, {"-0.2": 989, "1.0": 2, "4.0": 9})
    expected = {"late_p50_ms": 0.1, "late_p99_ms": 3.0, "late_max_ms": 40.0, "locked_p99_ms": 1.0}
    assert found == {name: pytest.approx(value, rel=1e-3) for name, value in expected.items()}


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="this kernel does not tell")
def test_a_thread_that_waits_for_a_cpu_knows_how_long() -> None:
    def spin(stop: Event) -> None:
        while not stop.is_set():
            sha256(b"x" * 1_000_000)  # without the interpreter's lock

    stop, began, until = Event(), waited_for_cpu_s(), time.monotonic() + 30
    threads = [Thread(target=spin, args=(stop,)) for _ in range(4 * (os.cpu_count() or 1))]
    for thread in threads:
        thread.start()
    while waited_for_cpu_s() == began and time.monotonic() < until:
        sha256(b"x" * 1_000_000)
    stop.set()
    for thread in threads:
        thread.join()
    assert 0 < waited_for_cpu_s() - began < 60


def task_of(folder: Path, **other: Any) -> PictureTask:
    options = {"bootstrap": "", "topic": "", "group": "", "count": 3, "warmup": 1, "mode": "beside", **other}
    return PictureTask(**options, report=folder / "report")


def test_wakes_of_the_warm_up_do_not_count(tmp_path: Path) -> None:
    meter = LateMeter(task_of(tmp_path))
    meter.note_late(0.5, 0.0)
    meter.add(1)
    for seconds in (0.00123, 0.00118, 0.02):
        meter.note_late(seconds, 0.001)
    meter.add(2)
    assert '"late_ms": {"1.2": 2, "20.0": 1}, "locked_ms": {"0.2": 2, "19.0": 1}' in (tmp_path / "report").read_text()


RESIZING = """
import json, sys
from pathlib import Path
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(options["--report"], "w", buffering=1) as pipe:
    print(json.dumps({"event": "warm", "records": 2}), file=pipe)
    for file in sorted(Path(options["--pictures"]).iterdir()):
        (Path(options["--results"]) / file.name).write_bytes(file.read_bytes())
    sum(range(3_000_000))
    print(json.dumps({"event": "done", "records": 9, "late_ms": {"2.0": 5}, "locked_ms": {"0.5": 5}}), file=pipe)
"""
COURSE = Course("", "none", 9, 0, 0.2)


def round_of(folder: Path, files: list[Path], program: str = RESIZING, mode: str = "picture") -> dict[str, Any]:
    """One round of a contender that calls these files its results."""
    (folder / "main.py").write_text(program)
    once = _Once(folder, files, [reference(file) for file in files])
    return once(once.prepared(Contender("one", "one", mode, [sys.executable, "main.py"], folder)), COURSE)


def test_a_round_says_what_the_results_are_worth(tmp_path: Path, files: list[Path]) -> None:
    for file in files:
        file.write_bytes(resize(file.read_bytes()))
    figures = round_of(tmp_path, files)
    assert figures["bytes"] == sum(file.stat().st_size for file in files) / 2
    assert figures["psnr_db"] == math.inf
    assert figures["cpu_ms"] == figures["cpu_us"] / 1e3 > 0
    assert "late_p99_ms" not in figures


def test_a_round_beside_an_event_loop_says_how_late_that_was(tmp_path: Path, files: list[Path]) -> None:
    figures = round_of(tmp_path, files, mode="beside")
    assert (figures["late_p50_ms"], figures["late_max_ms"]) == (pytest.approx(2.0, rel=1e-3), 2.0)
    assert figures["locked_p99_ms"] == pytest.approx(0.5, rel=1e-3)
    assert "psnr_db" not in figures


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (RESIZING, r"a picture of \(1600, 1200\), not \(800, 600\)"),
        (RESIZING.replace("file.read_bytes()", "b'GIF'"), "no picture: cannot identify"),
        (RESIZING.replace(".iterdir()", ".glob('none')"), r"no picture: .*1\.jpg"),
    ],
)
def test_who_makes_something_else_is_left_out(tmp_path: Path, files: list[Path], program: str, reason: str) -> None:
    with pytest.raises(ContenderError, match=reason):
        round_of(tmp_path, files, program)


def test_results_of_an_earlier_round_do_not_count(tmp_path: Path, files: list[Path]) -> None:
    for file in files:
        file.write_bytes(resize(file.read_bytes()))
    assert round_of(tmp_path, files)["psnr_db"] == round_of(tmp_path, files)["psnr_db"] == math.inf
    with pytest.raises(ContenderError, match="no picture"):
        round_of(tmp_path, files, RESIZING.replace(".iterdir()", ".glob('none')"))
