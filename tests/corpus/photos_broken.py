"""Photos that are cut, flipped, bombs or nothing of the kind: refused by name, without delay."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from corpus.cases import Case, demand, demand_named, numbered, refusal
from corpus.colours import with_chunks
from PIL import Image

from blockskip.data.photos import open_photo, read_photos
from blockskip.data.subject_boxes import read_box

CUTS, FLIPS = 10, 14  # of each format
MOST_S = 20.0  # seconds that a hostile file may take
NO_PHOTOS: dict[str, bytes] = {
    "empty.jpg": b"",
    "nul.jpg": bytes(5000),
    "text.jpg": b"dear diary",
    "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    "page.png": b"\xef\xbb\xbf<html>",
    "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "paper.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "film.jpg": b"\0\0\0\x18ftypmp42" + bytes(400),
    "film.heic": b"\0\0\0\x14ftypqt  " + bytes(400),
    "archive.png": b"PK\x03\x04" + bytes(400),
    "program.jpg": b"MZ" + bytes(400),
    "raw.dng": b"II*\0" + bytes(400),
    "raw.cr3": b"\0\0\0\x18ftypcrx " + bytes(400),
    "shop.psd": b"8BPS\0\x01" + bytes(400),
    "jumbled.tif": b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(50),
    "loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "script.jpg": b"#!/bin/sh\nrm -rf /\n",
}


def cases(seed: int, png: bytes, formats: list[tuple[str, bytes]]) -> list[Case]:
    """Return all broken photos. png: a good one. formats: (file name, content) of good ones."""
    chance = random.Random(seed)
    cut = [(name, data[: chance.randrange(len(data))]) for name, data in formats * CUTS]
    flips = [(name, _flip(data, chance)) for name, data in formats * FLIPS]
    bombs = [*_bombs(png), *NO_PHOTOS.items()]
    boxes = list(_boxes())
    return [
        *numbered("photos-cut", "cut photos", (_refused(file) for file in cut)),
        *numbered("photos-flip", "flipped photos", (_quiet(file) for file in flips)),
        *numbered("photos-bomb", "bombs and no photos", (_refused(file) for file in bombs)),
        *numbered("photos-good", "broken photos among good", (_among(f, png) for f in cut[:24])),
        *numbered("photos-box", "frames beside photos", (_box_case(text, png) for text in boxes)),
    ]


def _flip(data: bytes, chance: random.Random) -> bytes:
    copy = bytearray(data)
    for _ in range(3):
        copy[chance.randrange(len(copy))] ^= 1 << chance.randrange(8)
    return bytes(copy)


def _file(file: tuple[str, bytes]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / file[0]).write_bytes(file[1])
        return folder / file[0]

    return build


def _refused(file: tuple[str, bytes]) -> tuple[Callable, Callable]:
    def check(path: Path) -> None:
        began = time.monotonic()
        read: list[Image.Image] = []
        error = refusal(lambda: read.append(open_photo(path)))
        demand(time.monotonic() - began < MOST_S, "it took too long")
        # a file that lacks only its last bytes may hold the whole picture
        whole = bool(read) and read[0].size == (64, 48) and read[0].getpixel((60, 44))[0] > 150
        demand(error is not None or whole, f"{path.name} is taken")
        if error is not None:
            demand_named(error, path.name)

    return _file(file), check


def _quiet(file: tuple[str, bytes]) -> tuple[Callable, Callable]:
    """Flipped bits may show as other pixels: a picture of 8 bits, or refused by name."""

    def check(path: Path) -> None:
        read: list[Image.Image] = []
        error = refusal(lambda: read.append(open_photo(path)))
        if error is not None:
            demand_named(error, path.name)
        else:
            demand(read[0].mode == "RGB", f"mode {read[0].mode}")

    return _file(file), check


def _among(file: tuple[str, bytes], png: bytes) -> tuple[Callable, Callable]:
    """One bad file never stops the others."""

    def build(folder: Path) -> list[Path]:
        for name in ("a.png", "z.png"):
            (folder / name).write_bytes(png)
        (folder / file[0]).write_bytes(file[1][: len(file[1]) // 3])
        return [folder / "a.png", folder / file[0], folder / "z.png"]

    def check(paths: list[Path]) -> None:
        good, bad = read_photos(paths, "a photo of sks cat")
        names = [photo.path.name for photo in good]
        demand(names[0] == "a.png" and names[-1] == "z.png", f"only {names} are used")
        demand(len(good) + len(bad) == 3, "a file is in neither list")
        demand(all(one.name == file[0] and one.reason for one in bad), "refused without a name")

    return build, check


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bombs(png: bytes) -> list[tuple[str, bytes]]:
    """Files that are small and want to become gigabytes, or to be read for ever."""
    packed = zlib.compress(bytes(30_000_000), 1)

    def huge(width: int, height: int) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        body = _chunk(b"IHDR", head) + _chunk(b"IDAT", packed[:1000]) + _chunk(b"IEND", b"")
        return png[:8] + body

    bmp = b"BM" + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b";"
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4
    return [
        ("wide.png", huge(60_000, 60_000)),
        ("wider.png", huge(2**31 - 1, 2**31 - 1)),
        ("zero.png", huge(0, 0)),
        ("text.png", with_chunks(png, [(b"zTXt", b"a\0\0" + packed)])[: len(png) // 2 + 300_000]),
        ("big.bmp", bmp),
        ("big.gif", gif),
        ("big.webp", webp + b"\xff" * 6),
        ("negative.bmp", bmp[:22] + struct.pack("<i", -(2**31)) + bmp[26:]),
    ]


def _boxes() -> list[str]:
    texts = ["", "[]", "5", "null", "{}", '{"left": 0.2}', "{" * 5000, "NaN", '{"left": "a"}']
    corners = (
        ("-1", "1"),
        ("NaN", "1"),
        ("1e999", "1"),
        ("0.9", "0.1"),
        ("true", "1"),
        ("[]", "1"),
    )
    sides = '{{"left": {}, "top": 0.1, "right": {}, "bottom": 0.9}}'
    return [*texts, *(sides.format(*pair) for pair in corners), sides.format("0.1", "2")]


def _box_case(text: str, png: bytes) -> tuple[Callable, Callable]:
    """A bad frame never costs the photo."""

    def build(folder: Path) -> Path:
        (folder / "a.png").write_bytes(png)
        (folder / "a.box.json").write_text(text, encoding="utf-8")
        return folder / "a.png"

    def check(path: Path) -> None:
        demand(read_box(path) is None, f"{text[:40]} is a frame")
        good, bad = read_photos([path], "a cat")
        demand(len(good) == 1 and not bad, "the photo is left out")

    return build, check
