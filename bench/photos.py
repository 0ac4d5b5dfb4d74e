"""Photographs of 12 megapixels made from a seed, and how near a small one comes to a full resize."""

import math
import os
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageStat

from bench.brokers import say

SIZE, QUALITY = (4_000, 3_000), 92
SMALL = (800, 600)
SHAPES, GRAIN = 200, 0.12
COARSER = 0.45
"""What each octave of the clouds gives way to the next coarser one: coarse structure is the strongest, as in nature."""


def photo(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Clouds in colour and in brightness, shapes with sharp edges, and the grain of a sensor; the same for a seed."""
    random = Random(seed)
    colour, light = _clouds(random, "RGB", 5, size), _clouds(random, "L", 10, size)
    made = Image.blend(colour, light.convert("RGB"), 0.5)
    _draw_shapes(made, random)
    grain = Image.frombytes("L", size, random.randbytes(size[0] * size[1]))
    return Image.blend(made, grain.convert("RGB"), GRAIN)


def _clouds(random: Random, mode: str, octaves: int, size: tuple[int, int]) -> Image.Image:
    """Random dots, enlarged from 4x3 and its doubles, upon each other."""
    found = None
    for octave in reversed(range(octaves)):
        width, height = 4 << octave, 3 << octave
        dots = Image.frombytes(mode, (width, height), random.randbytes(len(mode) * width * height))
        layer = dots.resize(size, Image.Resampling.BICUBIC)
        found = layer if found is None else Image.blend(found, layer, COARSER)
    assert found is not None
    return found


def _draw_shapes(image: Image.Image, random: Random) -> None:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for _ in range(SHAPES):
        x, y, reach = random.randrange(width), random.randrange(height), random.randrange(width // 200, width // 10)
        corners = [
            (x + random.randint(-reach, reach), y + random.randint(-reach, reach)) for _ in range(random.randint(2, 4))
        ]
        colour = f"#{random.randbytes(3).hex()}"
        if len(corners) == 2:
            draw.line(corners, colour, random.randint(1, 8))
        else:
            draw.polygon(corners, colour)


def made_once(folder: Path, count: int) -> list[Path]:
    """So many photographs as JPEG files of 4 to 5 MB, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{seed}.jpg" for seed in range(1, count + 1)]
    for seed, file in enumerate(files, 1):
        if not file.exists():
            say(f"making photograph {seed} of {count}")
            unfinished = file.with_suffix(".part")
            photo(seed).save(unfinished, "JPEG", quality=QUALITY)
            os.replace(unfinished, file)
    return files


def reference(file: Path) -> Image.Image:
    """The full resize of a picture, Lanczos over all its pixels, before any loss."""
    with Image.open(file) as image:
        return image.convert("RGB").resize(SMALL, Image.Resampling.LANCZOS)


def psnr(one: Image.Image, other: Image.Image) -> float:
    """How near two pictures of one size are, in dB, over all channels; infinite for equal ones."""
    difference = ImageStat.Stat(ImageChops.difference(one, other))
    mean = sum(difference.sum2) / sum(difference.count)
    return 10 * math.log10(255**2 / mean) if mean else math.inf
