"""Photos as phones, cameras and programs write them, with the pixels a person would see."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
from corpus import photos_broken, photos_colours
from corpus.cases import Case, demand, numbered
from corpus.drawn import (
    GREYS,
    HEIGHT,
    ORIENTATION,
    QUARTERS,
    WIDTH,
    Written,
    encoded,
    exif,
    formats,
    grey_picture,
    picture,
)
from PIL import Image, TiffImagePlugin

from blockskip.data.photos import open_photo

LOSSLESS, JPEG, HEIF, GAMMA = 3, 9, 9, 6  # levels of 255 that a colour may be off
PILLOW_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # stored turned the other way
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def cases(seed: int) -> list[Case]:
    """Return all photos."""
    pillow_heif.register_heif_opener()
    return [
        *_right("photos-turned", "orientation", _turned()),
        *_right("photos-mode", "modes of pixels", _modes()),
        *_right("photos-icc", "ICC profiles", photos_colours.profiled()),
        *_right("photos-exif", "colours told by EXIF", photos_colours.adobe_by_exif()),
        *_right("photos-png", "colours told by PNG's chunks", photos_colours.png_chunks()),
        *_right("photos-nclx", "colours told by HEIF and AVIF", photos_colours.nclx()),
        *numbered("photos-hdr", "PQ and HLG", photos_colours.high_range()),
        *numbered("photos-suffix", "suffixes", map(_suffix_case, (".jfif", ".jpe", ".pjpeg"))),
        *photos_broken.cases(seed, encoded(picture(), "PNG"), formats()),
    ]


def _tolerance(name: str) -> int:
    if name.startswith(("gama-", "chrm-")):  # 1/2.2 may be read as sRGB's curve, which is near
        return GAMMA
    return {".jpg": JPEG, ".heic": HEIF, ".avif": HEIF, ".gif": JPEG}.get(
        Path(name).suffix, LOSSLESS
    )


def _right(prefix: str, kind: str, files: list[Written]) -> list[Case]:
    return numbered(prefix, kind, map(_seen_case, files))


def _seen_case(file: Written) -> tuple[Callable, Callable]:
    """The file is read as the picture; upright, sRGB, 8 bits."""

    def build(folder: Path) -> Path:
        (folder / file[0].rpartition("/")[2]).write_bytes(file[1])
        return folder / file[0].rpartition("/")[2]

    def check(path: Path) -> None:
        image = open_photo(path)
        demand(image.mode == "RGB", f"mode {image.mode}")
        demand(image.size == (WIDTH, HEIGHT), f"size {image.size} of {path.name}")
        grey = path.stem.startswith("grey")
        for row, column in itertools.product((0, 1), (0, 1)):
            at = (column * WIDTH // 2 + WIDTH // 4, row * HEIGHT // 2 + HEIGHT // 4)
            right = GREYS[row][column] if grey else QUARTERS[row][column]
            got = image.getpixel(at)
            off = max(abs(a - b) for a, b in zip(got, right, strict=True))
            demand(off <= _tolerance(path.name), f"{path.name}: {got} instead of {right}")

    return build, check


def _turned() -> list[Written]:
    """EXIF's eight orientations, and numbers that are none."""
    files = []
    for turn in (1, *PILLOW_TURNS, 0, 9, 77, 65535):
        image = picture()
        if turn in PILLOW_TURNS:
            image = image.transpose(PILLOW_TURNS[turn])
        for suffix, format in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            files.append((f"turned-{turn}.{suffix}", encoded(image, format, exif=exif(o=turn))))
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[ORIENTATION] = turn
        files.append((f"turned-{turn}.tif", encoded(image, "TIFF", tiffinfo=tags)))
    torn = exif(o=6)
    for end in (8, 12, 20, 25):  # damaged EXIF says nothing
        files.append((f"torn-exif-{end}.jpg", encoded(picture(), "JPEG", exif=torn[:end])))
    return files


def _modes() -> list[Written]:
    image, grey = picture(), grey_picture()
    on_white = Image.new("RGBA", image.size, (0, 0, 0, 0))
    opaque = Image.merge("RGBA", (*image.split(), Image.new("L", image.size, 255)))
    return [
        ("half.png", _half_transparent()),
        ("rgba.png", encoded(opaque, "PNG")),
        ("rgba.webp", encoded(opaque, "WEBP")),
        ("rgba.tif", encoded(opaque, "TIFF")),
        ("palette.png", encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
        ("palette.gif", encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "GIF")),
        ("palette.bmp", encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "BMP")),
        ("frames.gif", encoded(image, "GIF", save_all=True, append_images=[on_white] * 3)),
        ("frames.png", encoded(opaque, "PNG", save_all=True, append_images=[on_white])),
        ("frames.webp", encoded(image, "WEBP", save_all=True, append_images=[on_white])),
        ("pages.tif", encoded(image, "TIFF", save_all=True, append_images=[on_white])),
        ("deflate.tif", encoded(image, "TIFF", compression="tiff_adobe_deflate")),
        ("grey.png", encoded(grey, "PNG")),
        ("grey.jpg", encoded(grey, "JPEG")),
        ("grey-la.png", encoded(Image.merge("LA", (grey, Image.new("L", grey.size, 255))), "PNG")),
        ("grey-16.png", encoded(_deep(grey), "PNG")),
        ("grey-16.tif", encoded(_deep(grey), "TIFF")),
        ("grey-8.bmp", encoded(grey, "BMP")),
        ("wrong-name.jpg", encoded(image, "PNG")),
        ("wrong-name.png", encoded(image, "JPEG")),
        ("wrong-name.heic", encoded(image, "JPEG")),
        ("NAME.JPG", encoded(image, "JPEG")),
        ("no-suffix", encoded(image, "PNG")),
        ("two.dots.and blank ü.png", encoded(image, "PNG")),
        ("progressive.jpg", encoded(image, "JPEG", progressive=True)),
        ("tail.jpg", encoded(image, "JPEG") + b"\0" * 5000),
        ("tail.png", encoded(image, "PNG") + b"PK\x03\x04" * 500),
        ("phone.heic", encoded(image, "HEIF")),
        ("new.avif", encoded(image, "AVIF")),
    ]


def _deep(grey: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)


def _half_transparent() -> bytes:
    """Return a picture whose last quarter is the right one only over white."""
    pixels = np.dstack([np.asarray(picture()), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[HEIGHT // 2 :, WIDTH // 2 :] = (195, 195, 195, 128)
    return encoded(Image.fromarray(pixels), "PNG")


def _suffix_case(suffix: str) -> tuple[Callable, Callable]:
    """What Windows saves is a photo, for the page's file field too."""

    def build(folder: Path) -> Path:
        (folder / f"photo{suffix}").write_bytes(encoded(picture(), "JPEG"))
        return folder / f"photo{suffix}"

    def check(path: Path) -> None:
        from blockskip.studio import page

        demand(open_photo(path).size == (WIDTH, HEIGHT), "another size")
        fields = [
            part["props"].get("file_types") or ["image"]
            for part in page.build().get_config_file()["components"]
            if part["type"] == "file" and part["props"].get("interactive") is not False
        ]
        demand(fields, "no field for files")
        for types in fields:
            demand({suffix, "image"} & set(types), f"the page's field refuses {suffix}")

    return build, check
