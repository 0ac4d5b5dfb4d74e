"""Pictures for tests, made by Pillow."""

import struct
from io import BytesIO
from typing import Any

from PIL import Image

RED, GREEN, BLUE, WHITE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    written = BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def modes() -> list[tuple[str, bytes, tuple[int, ...]]]:
    half = Image.new("RGBA", (900, 90), (*RED, 128))
    palette = half.convert("RGB").quantize(8)
    deep = Image.frombytes("I;16", (900, 90), struct.pack("<H", 0x8080) * 81_000)
    return [
        ("RGB", encoded(Image.new("RGB", (900, 90), RED)), RED),
        ("RGBA", encoded(half), (255, 127, 127)),
        ("LA", encoded(Image.new("LA", (900, 90), (0, 128))), (127, 127, 127)),
        ("clear", encoded(Image.new("RGBA", (900, 90), (*RED, 0))), WHITE),
        ("P", encoded(palette), RED),
        ("P with tRNS", encoded(palette, transparency=palette.getpixel((0, 0))), WHITE),
        ("RGB with tRNS", encoded(Image.new("RGB", (900, 90), RED), transparency=RED), WHITE),
        ("L with tRNS", encoded(Image.new("L", (900, 90), 128), transparency=128), WHITE),
        ("L", encoded(Image.new("L", (900, 90), 128)), GREY),
        ("1", encoded(Image.new("1", (900, 90), 1)), WHITE),
        ("16 bits", encoded(deep), GREY),
        ("CMYK", encoded(Image.new("CMYK", (900, 90), (0, 255, 255, 0)), "JPEG", quality=95), RED),
        ("L JPEG", encoded(Image.new("L", (900, 90), 128), "JPEG"), GREY),
        ("progressive", encoded(Image.new("RGB", (900, 90), RED), "JPEG", progressive=True), RED),
        ("WebP", encoded(half, "WEBP", lossless=True), (255, 127, 127)),
        ("GIF", encoded(palette, "GIF", transparency=palette.getpixel((0, 0))), WHITE),
    ]


def anything(kind: str) -> bytes:
    picture = Image.effect_noise((300, 200), 90).convert("RGB")
    return encoded(picture, kind)
