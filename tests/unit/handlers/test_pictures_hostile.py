"""Hostile and broken pictures: refused, or read within bounds."""

import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handlers.pictures import PIXELS_MAX, resize
from handlers.stores.processed import Refused
from tests.unit.handlers.pictures import FORMATS, RED, anything, encoded

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # what the tests run in forgets the filters of modules
REASONS = {"format", "too_many_pixels", "broken"}


def reason_of(data: bytes) -> str | None:
    """Why a picture is refused, if it is."""
    try:
        resize(data)
    except Refused as refusal:
        outcome = refusal.outcome
    else:
        return None
    assert len(outcome.detail) < 80
    return outcome.reason


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *before: bytes) -> bytes:
    """A grey PNG of one bit a pixel."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    added = b"".join(struct.pack(">BBH", 255, kind, len(data) + 2) + data for kind, data in segments)
    return jpeg[:2] + added + jpeg[2:]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_picture_is_refused(kind: str) -> None:
    data = anything(kind)
    for length in (12, 30, 100, len(data) // 4, len(data) // 2, len(data) - 100):
        assert reason_of(data[:length]) == "broken", length


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_picture_is_refused_or_read_but_nothing_else(kind: str) -> None:
    chance, data = random.Random(1), anything(kind)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(min(len(data), 2_000))] = chance.randrange(256)
        if reason := reason_of(bytes(damaged)):
            assert reason in REASONS


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7"),
        *(b"RIFF\0\0\0\0WAVEfmt ", b"PK\3\4", b"GIF90a", b"\x89PNG\n", b"\xff\xd8", b"<html>", b"#!/bin/sh"),
        *(
            encoded(Image.new("RGB", (9, 9)), kind)
            for kind in ("TIFF", "BMP", "ICO", "PPM", "TGA", "PCX", "PDF", "EPS")
        ),
    ],
    ids=range(21),
)
def test_another_format_is_refused(data: bytes) -> None:
    assert reason_of(data) == "format"


def test_what_hangs_on_a_picture_is_left_behind() -> None:
    jpeg, gif = anything("JPEG"), anything("GIF")
    assert resize(jpeg + b"PK\3\4" + b"<script>alert(1)</script>" * 99) == resize(jpeg)
    assert resize(gif + jpeg) == resize(gif)


def gif_with_a_large_frame(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    at = data.index(b",\0\0\0\0")
    data[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 400 MP": lambda: png(20_000, 20_000, b""),
    "PNG of 169 MP": lambda: png(13_000, 13_000, bytes(1_626 * 13_000)),
    "PNG of 51 MP": lambda: png(51_000, 1_000, bytes(6_376 * 1_000)),
    "PNG of 2**62 pixels": lambda: png(2**31 - 1, 2**31 - 1, b""),
    "GIF of 4 GP": lambda: gif_with_a_large_frame(65_535, 65_535),
    "GIF of 100 MP": lambda: gif_with_a_large_frame(10_000, 10_000),
    "WebP of 100 MP": lambda: webp_that_claims(10_000, 10_000),
    "JPEG of 100 MP": lambda: encoded(Image.new("L", (10_000, 10_000)), "JPEG"),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS.keys())
def test_a_picture_of_too_many_pixels_is_refused(make: Callable[[], bytes]) -> None:
    assert reason_of(make()) == "too_many_pixels"


def test_the_largest_picture_passes() -> None:
    assert PIXELS_MAX == 50_000_000
    assert reason_of(png(50_000, 1_000, bytes(6_250 * 1_000 + 1_000))) is None


def hostile() -> dict[str, tuple[bytes, str | None]]:
    """Pictures that are read or refused, by what they hold."""
    jpeg, pixel = encoded(Image.new("RGB", (90, 90), RED), "JPEG")[:], b"\0\0"
    bare = jpeg[:2] + jpeg[20:]  # without JFIF, readers look for the resolution in EXIF
    fields = b"".join(struct.pack(">HHII", tag, 7, 50_000, 8) for tag in range(5_000))
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 5_000) + fields
    loop = b"Exif\0\0MM\0*\0\0\0\x08\0\1" + struct.pack(">HHII", 0x8769, 4, 1, 8) + b"\0\0\0\x08"
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    small = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))
    iccp = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    scans = encoded(Image.effect_noise((90, 90), 50), "JPEG", progressive=True)
    scan = scans[scans.rindex(b"\xff\xda") : -2]
    return {
        "EXIF of 5,000 fields": (with_segments(bare, (0xE1, exif)), None),
        "EXIF of 2 MB": (with_segments(bare, (0xE1, exif), *[(0xE1, b"Exif\0\0" + bytes(65_000))] * 30), None),
        "EXIF in a circle": (with_segments(bare, (0xE1, loop)), None),
        "EXIF that is cut": (with_segments(bare, (0xE1, exif[:20])), None),
        "EXIF that is text": (with_segments(bare, (0xE1, b"Exif\0\0hello")), None),
        "profile of 16 MB": (
            with_segments(jpeg, *[(0xE2, b"ICC_PROFILE\0" + bytes((n, 255)) + bytes(65_000)) for n in range(1, 256)]),
            None,
        ),
        "PNG text of 100 MB": (png(8, 1, pixel, text), "broken"),
        "PNG text of 100 x 1 MB": (png(8, 1, pixel, *[small] * 100), "broken"),
        "PNG profile of 100 MB": (png(8, 1, pixel, iccp), "broken"),
        "PNG that says it is animated": (png(8, 1, pixel, chunk(b"acTL", bytes(8)), chunk(b"acTL", bytes(8))), None),
        "JPEG of 10,000 scans": (scans[:-2] + scan * 10_000 + b"\xff\xd9", "broken"),
        "GIF of 100,000 frames": (anything("GIF")[:-1] + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0" * 100_000 + b";", None),
    }


@pytest.mark.parametrize(("data", "reason"), hostile().values(), ids=hostile().keys())
def test_what_a_picture_holds_besides_costs_little(data: bytes, reason: str | None) -> None:
    tracemalloc.start()
    try:
        assert reason_of(data) == reason
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + 80_000_000
    finally:
        tracemalloc.stop()


PROGRAM = """
import pickle, resource, sys
from handlers.pictures import *
from handlers.stores.processed import Refused
pictures = pickle.load(open(sys.argv[1], "rb"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in pictures:
    try: resize(data)
    except Refused: pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("pictures", "megabytes"),
    [
        ([make() for make in BOMBS.values()], 20),
        ([data for data, _ in hostile().values()], 100),
    ],
    ids=["bombs", "hostile"],
)
def test_a_process_that_reads_them_stays_small_and_silent(
    tmp_path: Path, pictures: list[bytes], megabytes: int
) -> None:
    (tmp_path / "pictures").write_bytes(pickle.dumps(pictures))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "pictures")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr[:1_000] == ""
    assert int(ran.stdout) < megabytes * 1_000
