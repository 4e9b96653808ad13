"""The picture of all photos of the corpus, and how it is encoded."""

from __future__ import annotations

import functools
import io
import itertools
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

WIDTH, HEIGHT = 64, 48
# as a person sees the picture: a colour for each quarter
QUARTERS = (((200, 120, 40), (40, 160, 90)), ((90, 80, 200), (225, 225, 225)))
GREYS = tuple(tuple((level,) * 3 for level in row) for row in ((40, 200), (120, 250)))
ORIENTATION, COLOUR_SPACE, INTEROP_INDEX = 0x0112, 0xA001, 0x0001
Written = tuple[str, bytes]  # file name, content


def picture() -> Image.Image:
    """Return the picture as a person sees it."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for row, column in itertools.product((0, 1), (0, 1)):
        y, x = row * HEIGHT // 2, column * WIDTH // 2
        pixels[y : y + HEIGHT // 2, x : x + WIDTH // 2] = QUARTERS[row][column]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return a picture in a format, at its best quality."""
    best: dict[str, dict] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
        "HEIF": {"quality": 100, "chroma": 444},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    data = io.BytesIO()
    image.save(data, format, **best.get(format, {}) | options)
    return data.getvalue()


@functools.cache
def formats() -> list[Written]:
    """Return the picture in every format."""
    pillow_heif.register_heif_opener()
    names = {"JPEG": "jpg", "HEIF": "heic", "AVIF": "avif", "TIFF": "tif"}
    formats = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "TIFF", "GIF")
    return [(f"photo.{names.get(f, f.lower())}", encoded(picture(), f)) for f in formats]


def grey_picture() -> Image.Image:
    """Return four greys, as GREYS has them."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, column in itertools.product((0, 1), (0, 1)):
        y, x = row * HEIGHT // 2, column * WIDTH // 2
        pixels[y : y + HEIGHT // 2, x : x + WIDTH // 2] = GREYS[row][column][0]
    return Image.fromarray(pixels)


def exif(**tags: Any) -> bytes:
    """Return EXIF with tags of the first table: o=orientation; space, interop: of Adobe RGB."""
    exif = Image.Exif()
    if "o" in tags:
        exif[ORIENTATION] = tags["o"]
    if "space" in tags:
        exif.get_ifd(0x8769)[COLOUR_SPACE] = tags["space"]
    if "interop" in tags:
        exif.get_ifd(0x8769)[0xA005] = {INTEROP_INDEX: tags["interop"]}
    return exif.tobytes()
