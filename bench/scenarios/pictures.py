"""Photographs of 12 megapixels to fit into 800x600: ours, sharp, and Pillow over all pixels, one thread each.

And how late an event loop is while threads beside it resize.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from bench.brokers import Target
from bench.contenders import peers, program
from bench.contest import Contender, ContenderError, Course, Results, play, run_once
from bench.photos import SMALL, made_once, psnr, reference
from bench.plots import bars, histogram_of
from bench.scenario import Column, Scenario, figure, least_and_most

FOLDER = Path(__file__).parents[1] / "results" / "photographs"
MODES = {"ours": "streamproc", "full": "Pillow, all pixels", "beside": "streamproc, beside an event loop"}
BESIDE = 5
"""Times as many pictures beside the event loop, for a 99th percentile of enough wakes."""
SHARES = {"late_p50_ms": 0.5, "late_p99_ms": 0.99, "late_max_ms": 1.0}


def run(target: Target, quick: bool, results: Results) -> None:
    """Each in turn, on the same files."""
    photos, times, rounds = (2, 5, 1) if quick else (4, 10, 7)
    files = made_once(FOLDER, photos)
    course = Course(target.bootstrap, "none", photos * (times + 1), 0, warmup_share=1 / (times + 1))
    longer = replace(course, records=photos * (BESIDE * times + 1), warmup_share=1 / (BESIDE * times + 1))
    theirs, results.left_out = peers(["picture"])
    ours = [program("programs.resizing", mode, title, name=mode) for mode, title in MODES.items()]
    contenders = [*(replace(one, rate=0.0) for one in theirs), *ours]  # whose rate is not known is in every round
    with TemporaryDirectory() as folder:
        once = _Once(Path(folder), files, [reference(file) for file in files])
        for _ in range(rounds):
            for contender in contenders:
                of_mode = longer if contender.mode == "beside" else course
                play([once.prepared(contender)], of_mode, rounds=1, results=results, once=once)


@dataclass(frozen=True, slots=True)
class _Once:
    """One round of a contender, and what its results are worth."""

    folder: Path
    files: Sequence[Path]
    references: Sequence[Image.Image]

    def prepared(self, contender: Contender) -> Contender:
        """With a folder that holds these pictures, and an empty one for what it makes of them."""
        pictures, made = self.folder / "pictures", self.folder / contender.name
        for folder in (pictures, made):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for file in self.files:
            (pictures / file.name).symlink_to(file)
        return replace(contender, command=[*contender.command, "--pictures", str(pictures), "--results", str(made)])

    def __call__(self, contender: Contender, course: Course) -> dict[str, Any]:
        """Runs it."""
        figures = run_once(contender, course)
        made = [self.folder / contender.name / file.name for file in self.files]
        if contender.mode == "beside":
            return figures | _costs(figures) | lateness(figures["late_ms"], figures["locked_ms"])
        near = [psnr(_small(file), full) for file, full in zip(made, self.references, strict=True)]
        return figures | _costs(figures) | {"psnr_db": mean(near), "bytes": mean(file.stat().st_size for file in made)}


def _costs(figures: Mapping[str, float]) -> dict[str, float]:
    return {"cpu_ms": figures["cpu_us"] / 1e3, "per_core_s": 1e6 / figures["cpu_us"]}


def _small(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except OSError as error:
        raise ContenderError(f"it made no picture: {error}") from None
    if small.size != SMALL:
        raise ContenderError(f"it made a picture of {small.size}, not {SMALL}")
    return small


def lateness(late_ms: Mapping[str, int], locked_ms: Mapping[str, int]) -> dict[str, float]:
    """How many milliseconds late these shares of the wakes are at most, from counts by milliseconds.

    `locked_ms` is without what the loop's thread waited for a CPU: another thread had the interpreter's lock.
    """
    late = histogram_of(late_ms)
    found = {name: late.percentile(share) for name, share in SHARES.items()}
    return found | {"locked_p99_ms": histogram_of(locked_ms).percentile(SHARES["late_p99_ms"])}


COLUMNS: dict[str, Column] = {
    "pictures/s per core": figure("per_core_s", "{:.1f}"),
    "ms CPU": figure("cpu_ms", "{:.1f}"),
    "spread": least_and_most("cpu_ms", "{:.1f}"),
    "PSNR dB": figure("psnr_db"),
    "bytes": figure("bytes", "{:,.0f}"),
    "peak MiB": figure("rss_mb", "{:.0f}"),
    "late p50 ms": figure("late_p50_ms", "{:.1f}"),
    "p99 ms": figure("late_p99_ms", "{:.1f}"),
    "max ms": figure("late_max_ms", "{:.1f}"),
    "p99 ms with a CPU": figure("locked_p99_ms", "{:.1f}"),
}
SCENARIO = Scenario(
    "pictures",
    "12-megapixel JPEG to 800x600",
    run,
    COLUMNS,
    plot=bars("cpu_ms", "ms CPU per picture"),
    on_kafka=False,
)
