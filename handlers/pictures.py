"""Pictures that are shown small: whatever a browser may have sent, as a JPEG that fits into 800x600."""

import warnings
from contextlib import suppress
from io import BytesIO

from PIL import Image, ImageCms
from PIL.ExifTags import Base
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Transpose as T
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from handlers.stores.processed import Refused

SIZE, QUALITY = (800, 600), 80
PIXELS_MAX, PROFILE_BYTES_MAX = 50_000_000, 2**22
SCANS_MAX = 100
"""Of a progressive JPEG: each may cost as much as a whole picture, and about ten are usual."""

_TURNS = (T.FLIP_LEFT_RIGHT, T.ROTATE_180, T.FLIP_TOP_BOTTOM, T.TRANSPOSE, T.ROTATE_270, T.TRANSVERSE, T.ROTATE_90)
"""Of the EXIF orientations 2 to 8."""

# For good, as filters are shared by all threads: of one hostile picture, Pillow may warn thousands of times.
warnings.filterwarnings("ignore", module=r"PIL\.")


def resize(data: bytes) -> bytes:
    """A picture as a JPEG of 800x600 at most, upright, in sRGB, on white, with no metadata; never enlarged.

    Raises Refused: `format` for what is no JPEG, PNG, WebP or GIF, `too_many_pixels`, `broken`.
    """
    try:
        image, orientation = _read(data)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # readers raise nearly anything for what they cannot read
        is_bomb = isinstance(error, Image.DecompressionBombError)
        raise Refused("too_many_pixels" if is_bomb else "broken", type(error).__name__) from None
    profile = image.info.get("icc_profile")
    if image.mode == "RGBA":
        picture, image = image, Image.new("RGB", image.size, "white")
        image.paste(picture, mask=picture)
    image = _in_srgb(image, profile)
    if 2 <= orientation <= 8:
        image = image.transpose(_TURNS[orientation - 2])
    image.info = {}  # a comment would be written
    written = BytesIO()
    image.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def _read(data: bytes) -> tuple[Image.Image, int]:
    """The first picture at its final size, not yet turned, and its EXIF orientation."""
    image = _open(data)
    size, box = image.size, None
    if size[0] * size[1] > PIXELS_MAX:
        raise Refused("too_many_pixels", f"{size[0]}x{size[1]}, where {PIXELS_MAX:,} are taken at most")
    if not isinstance(image, JpegImageFile):
        image.load()
    orientation = _orientation(image)
    final = _final(size, orientation)
    if isinstance(image, JpegImageFile):
        _, box = image.draft(None, final) or (None, None)
        image.load()
    plain = _plain(image)
    if final != size:
        plain = plain.resize(final, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    return plain, orientation


def _open(data: bytes) -> Image.Image:
    """Its reader, without `Image.open`, which would try others too."""
    if data[:3] == b"\xff\xd8\xff":
        image = JpegImageFile(BytesIO(data))
        if "progressive" in image.info and data.count(b"\xff\xda") > SCANS_MAX:
            raise Refused("broken", "too many scans")
        return image
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImageFile(BytesIO(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile(BytesIO(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return GifImageFile(BytesIO(data))
    raise Refused("format", "neither JPEG, PNG, WebP nor GIF")


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # EXIF data that cannot be read says nothing
        return int(image.getexif().get(Base.Orientation, 1))
    return 1


def _final(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size before the turn."""
    width, height = SIZE[::-1] if orientation in (5, 6, 7, 8) else SIZE
    scale = min(1.0, width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _plain(image: Image.Image) -> Image.Image:
    """In one of the modes that scale well: RGBA, L, RGB, CMYK."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode.startswith("I"):  # 16 bits, which a mere conversion would cut off
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converted as the profile says, if it can be used."""
    if profile and len(profile) <= PROFILE_BYTES_MAX:
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")
