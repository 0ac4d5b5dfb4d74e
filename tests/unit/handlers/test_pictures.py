"""Pictures: what comes out is small, upright, in sRGB and clean."""

import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, Literal

import pytest
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFilter, ImageStat, PngImagePlugin

from handlers.pictures import resize
from handlers.stores.processed import Refused
from tests.unit.handlers.pictures import BLUE, FORMATS, GREEN, GREY, RED, WHITE, anything, encoded, modes


def result(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(resize(data)))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert set(image.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    image.load()
    return image


def is_near(color: Any, wanted: tuple[int, ...], by: int = 6) -> bool:
    return all(abs(one - other) <= by for one, other in zip(color, wanted, strict=True))


def corners(size: tuple[int, int]) -> Image.Image:
    """Red at the upper left, green at the upper right, blue at the lower left."""
    image = Image.new("RGB", size, "white")
    draw, (width, height) = ImageDraw.Draw(image), size
    for color, x, y in ((RED, 0, 0), (GREEN, width // 2, 0), (BLUE, 0, height // 2)):
        draw.rectangle((x, y, x + width // 2, y + height // 2), fill=color)
    return image


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1600, 1200), (800, 600)),
        ((4000, 3000), (800, 600)),
        ((3001, 2001), (800, 533)),
        ((1000, 3000), (200, 600)),
        ((801, 600), (800, 599)),
        ((800, 600), (800, 600)),
        ((33, 17), (33, 17)),
        ((1, 1), (1, 1)),
        ((9000, 2), (800, 1)),
        ((2, 9000), (1, 600)),
    ],
)
def test_a_picture_fits_and_is_never_enlarged(kind: str, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert result(encoded(Image.new("RGB", size, GREY), kind)).size == wanted


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(1200, 2000), (60, 100)])
@pytest.mark.parametrize(
    ("orientation", "colors"),
    [
        (1, (RED, GREEN, BLUE)),
        (2, (GREEN, RED, WHITE)),
        (3, (WHITE, BLUE, GREEN)),
        (4, (BLUE, WHITE, RED)),
        (5, (RED, BLUE, GREEN)),
        (6, (BLUE, RED, WHITE)),
        (7, (WHITE, GREEN, BLUE)),
        (8, (GREEN, WHITE, RED)),
        (9, (RED, GREEN, BLUE)),
        (0, (RED, GREEN, BLUE)),
    ],
)
def test_a_picture_is_upright(
    kind: str, size: tuple[int, int], orientation: int, colors: tuple[tuple[int, ...], ...]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = orientation in (5, 6, 7, 8)
    image = result(encoded(corners(size), kind, exif=exif, quality=95))
    width, height = image.size
    assert (width > height) == turned
    assert image.size == ((800, 480) if turned else (360, 600)) or max(size) == 100
    for at, wanted in zip(((0.25, 0.25), (0.75, 0.25), (0.25, 0.75)), colors, strict=True):
        assert is_near(image.getpixel((int(width * at[0]), int(height * at[1]))), wanted, by=12)


@pytest.mark.parametrize(("data", "wanted"), [mode[1:] for mode in modes()], ids=[mode[0] for mode in modes()])
def test_every_mode_becomes_colours_on_white(data: bytes, wanted: tuple[int, ...]) -> None:
    image = result(data)
    assert image.size == (800, 80)
    assert is_near(image.getpixel((400, 40)), wanted)


def test_sixteen_bits_keep_their_range() -> None:
    row = b"".join(struct.pack("<H", 64 * column) for column in range(1000))
    image = result(encoded(Image.frombytes("I;16", (1000, 100), row * 100)))
    assert [image.getpixel((x, 40))[0] // 10 for x in (8, 200, 400, 792)] == [0, 6, 12, 24]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_many_frames_the_first_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (50, 50), color) for color in (RED, GREEN, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=10)
    assert is_near(result(data).getpixel((25, 25)), RED)


def profile(kind: Literal["XYZ", "LAB"] = "XYZ") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def swapped() -> bytes:
    """A profile whose red is green and whose green is red."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colours_are_those_of_the_profile(kind: str) -> None:
    data = encoded(Image.new("RGB", (900, 90), RED), kind, icc_profile=swapped(), quality=95)
    assert is_near(result(data).getpixel((400, 40)), GREEN, by=12)


@pytest.mark.parametrize(
    "broken",
    [
        b"x",
        b"\0" * 128,
        profile()[:200],
        profile()[:-1],
        swapped()[:140],
        bytes(2**20),
        profile("LAB"),
        b"\xff" * 5_000,
    ],
    ids=range(8),
)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_profile_that_is_of_no_use_counts_as_none(kind: str, broken: bytes) -> None:
    data = encoded(Image.new("RGB", (900, 90), RED), kind, icc_profile=broken, quality=95)
    assert is_near(result(data).getpixel((400, 40)), RED, by=12)


def test_nothing_of_the_metadata_is_kept() -> None:
    exif = Image.Exif()
    exif[0x010E] = "c4nary-exif"
    notes = PngImagePlugin.PngInfo()
    notes.add_text("c4nary", "c4nary-text")
    notes.add_itxt("XML:com.adobe.xmp", "c4nary-xmp")
    image = Image.new("RGB", (90, 90), RED)
    for data in (
        encoded(image, "JPEG", exif=exif, comment=b"c4nary-comment", xmp=b"c4nary-xmp", icc_profile=swapped()),
        encoded(image, "PNG", exif=exif, pnginfo=notes, icc_profile=swapped(), dpi=(7, 7)),
        encoded(image, "WEBP", exif=exif, xmp=b"c4nary-xmp", icc_profile=swapped()),
        encoded(image, "GIF", comment=b"c4nary-comment"),
    ):
        assert b"c4nary" in data or b"iTXt" in data
        clean = resize(data)
        assert not [word for word in (b"c4nary", b"Exif", b"ICC", b"http", b"\xff\xfe") if word in clean[:600]]
        assert Image.open(BytesIO(clean)).getexif() == {}


def test_a_reduced_picture_is_as_good_as_a_full_one() -> None:
    image = Image.effect_noise((2000, 1500), 90).filter(ImageFilter.GaussianBlur(4)).convert("RGB")
    image.paste(corners((900, 700)), (500, 300))
    data = encoded(image, "JPEG", quality=92)
    wanted = Image.open(BytesIO(data)).resize((800, 600), Image.Resampling.LANCZOS)
    difference = ImageStat.Stat(ImageChops.difference(result(data), wanted))
    assert max(difference.rms) < 4


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [anything(kind) for kind in FORMATS] + [mode[1] for mode in modes()]
    wanted = [resize(data) for data in pictures]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(resize, pictures * 5)) == wanted * 5


def test_it_can_be_sent_to_a_process_and_its_refusals_back() -> None:
    function, refusal = pickle.loads(pickle.dumps((resize, Refused("broken", "x"))))  # noqa: S301
    assert function is resize
    assert (refusal.outcome.reason, refusal.outcome.detail) == ("broken", "x")
