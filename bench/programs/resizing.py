"""Pictures as a contender: each to fit into 800x600, as a JPEG of quality 80.

Modes: `ours`, the application's function in a loop; `full`, Pillow over all pixels; `beside`, ours in the threads of
`[compute]`, as many pictures at once as CPUs, beside an event loop whose lateness is noted.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path

from bench.report import Meter, Task
from bench.usage import waited_for_cpu_s
from handlers.pictures import QUALITY, SIZE, resize
from streamproc.compute import Compute, ComputeOptions, open_compute
from streamproc.tuning import tune

WAKE_S = 0.005


@dataclass(frozen=True)
class PictureTask(Task):
    """Also: the folder of the pictures, and the one that the first result of each is written to."""

    pictures: Path = Path()
    results: Path = Path()

    def inputs(self) -> list[tuple[Path, bytes]]:
        """Where the result of each picture goes, and the picture."""
        return [(self.results / file.name, file.read_bytes()) for file in sorted(self.pictures.glob("*.jpg"))]


class LateMeter(Meter):
    """Notes also how late the event loop is."""

    def __init__(self, task: Task, on_done: Callable[[], None] = lambda: None) -> None:
        super().__init__(task, on_done)
        self._late_ms: Counter[float] = Counter()
        self._locked_ms: Counter[float] = Counter()

    def note_late(self, seconds: float, without_cpu_s: float) -> None:
        """A task was woken so much too late, of which its thread waited so long for a CPU."""
        if self.warm:
            self._late_ms[round(seconds * 1e3, 1)] += 1
            self._locked_ms[round((seconds - without_cpu_s) * 1e3, 1)] += 1

    def _of_mode(self) -> dict[str, object]:
        return {"late_ms": self._late_ms, "locked_ms": self._locked_ms}


def full(data: bytes) -> bytes:
    """Without the decoder's reduced sizes: all pixels are decoded, turned and weighed."""
    from PIL import Image, ImageOps

    written = BytesIO()
    with Image.open(BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        upright.resize(SIZE, Image.Resampling.LANCZOS).save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def in_a_loop(meter: Meter, task: PictureTask, function: Callable[[bytes], bytes]) -> None:
    """One after the other; the first of each is kept."""
    inputs = task.inputs()
    while not meter.done:
        for file, data in inputs:
            result = function(data)
            if not meter.warm:
                file.write_bytes(result)
            meter.add(1)


async def beside(meter: LateMeter, task: PictureTask) -> None:
    """Until all is counted."""
    async with open_compute(ComputeOptions()) as compute:
        asking = [asyncio.create_task(_ask(meter, compute, task)) for _ in range(os.cpu_count() or 1)]
        while not meter.done:
            due, waited_s = time.perf_counter() + WAKE_S, waited_for_cpu_s()
            await asyncio.sleep(WAKE_S)
            meter.note_late(time.perf_counter() - due, waited_for_cpu_s() - waited_s)
        await asyncio.gather(*asking)


async def _ask(meter: Meter, compute: Compute, task: PictureTask) -> None:
    for _, data in cycle(task.inputs()):
        if meter.done:
            return
        await compute.run(resize, data)
        meter.add(1)


def main(task: PictureTask) -> int:
    """Resizes until all is counted; ours in a process that is tuned as the service is."""
    if task.mode != "full":
        tune()
    if task.mode == "beside":
        import uvloop

        uvloop.run(beside(LateMeter(task), task))
    else:
        in_a_loop(Meter(task), task, full if task.mode == "full" else resize)
    return 0


if __name__ == "__main__":
    sys.exit(main(PictureTask.from_arguments()))
