"""Photos as phones, cameras and programs write them, with the pixels a person would see."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from corpus import photos_broken
from corpus.cases import Case, demand, numbered, refusal
from corpus.colours import (
    ADOBE,
    ADOBE_GAMMA,
    BT2020,
    D50,
    D65,
    P3,
    PROPHOTO,
    SRGB,
    chromaticities,
    grey_profile,
    icc_profile,
    stored,
    tone_mapped,
    with_chunks,
)
from PIL import Image, TiffImagePlugin

from blockskip.data.photos import open_photo

WIDTH, HEIGHT = 64, 48
# as a person sees the picture: a colour for each quarter
QUARTERS = (((200, 120, 40), (40, 160, 90)), ((90, 80, 200), (225, 225, 225)))
LOSSLESS, JPEG, HEIF, GAMMA = 3, 9, 9, 6  # levels of 255 that a colour may be off
ORIENTATION, COLOUR_SPACE, INTEROP_INDEX = 0x0112, 0xA001, 0x0001
PILLOW_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # stored turned the other way
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Written = tuple[str, bytes]  # file name, content


def cases(seed: int) -> list[Case]:
    """Return all photos."""
    pillow_heif.register_heif_opener()
    return [
        *_right("photos-turned", "orientation", _turned(), None),
        *_right("photos-mode", "modes of pixels", _modes(), None),
        *_right("photos-icc", "ICC profiles", _profiled(), None),
        *_right("photos-exif", "colours told by EXIF", _adobe_by_exif(), None),
        *_right("photos-png", "colours told by PNG's chunks", _png_chunks(), None),
        *_right("photos-nclx", "colours told by HEIF and AVIF", _nclx(), None),
        *numbered("photos-hdr", "PQ and HLG", map(_hdr_case, _hdr())),
        *numbered("photos-suffix", "suffixes", map(_suffix_case, (".jfif", ".jpe", ".pjpeg"))),
        *photos_broken.cases(seed, encoded(picture(), "PNG"), list(_formats())),
    ]


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


def _formats() -> list[Written]:
    names = {"JPEG": "jpg", "HEIF": "heic", "AVIF": "avif", "TIFF": "tif"}
    formats = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP", "TIFF", "GIF")
    return [(f"photo.{names.get(f, f.lower())}", encoded(picture(), f)) for f in formats]


def _tolerance(name: str) -> int:
    if name.startswith(("gama-", "chrm-")):  # 1/2.2 may be read as sRGB's curve, which is near
        return GAMMA
    return {".jpg": JPEG, ".heic": HEIF, ".avif": HEIF, ".gif": JPEG}.get(Path(name).suffix, LOSSLESS)


def _right(prefix: str, kind: str, files: list[Written], seen: Any) -> list[Case]:
    return numbered(prefix, kind, (_seen_case(file, seen) for file in files))


def _seen_case(file: Written, seen: Image.Image | None) -> tuple[Callable, Callable]:
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


GREYS = tuple(tuple((level,) * 3 for level in row) for row in ((40, 200), (120, 250)))


def _grey() -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, column in itertools.product((0, 1), (0, 1)):
        y, x = row * HEIGHT // 2, column * WIDTH // 2
        pixels[y : y + HEIGHT // 2, x : x + WIDTH // 2] = GREYS[row][column][0]
    return Image.fromarray(pixels)


def _exif(**tags: Any) -> bytes:
    """Return EXIF with tags of the first table: o=orientation; space, interop: of Adobe RGB."""
    exif = Image.Exif()
    if "o" in tags:
        exif[ORIENTATION] = tags["o"]
    if "space" in tags:
        exif.get_ifd(0x8769)[COLOUR_SPACE] = tags["space"]
    if "interop" in tags:
        exif.get_ifd(0x8769)[0xA005] = {INTEROP_INDEX: tags["interop"]}
    return exif.tobytes()


def _turned() -> list[Written]:
    """EXIF's eight orientations, and numbers that are none."""
    files = []
    for turn in (1, *PILLOW_TURNS, 0, 9, 77, 65535):
        image = picture()
        if turn in PILLOW_TURNS:
            image = image.transpose(PILLOW_TURNS[turn])
        for suffix, format in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            files.append((f"turned-{turn}.{suffix}", encoded(image, format, exif=_exif(o=turn))))
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[ORIENTATION] = turn
        files.append((f"turned-{turn}.tif", encoded(image, "TIFF", tiffinfo=tags)))
    torn = _exif(o=6)
    for end in (8, 12, 20, 25):  # damaged EXIF says nothing
        files.append((f"torn-exif-{end}.jpg", encoded(picture(), "JPEG", exif=torn[:end])))
    return files


def _modes() -> list[Written]:
    image, grey = picture(), _grey()
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


def _in(primaries: tuple, curve: Any, white: tuple = D65) -> Image.Image:
    return Image.fromarray(stored(np.asarray(picture()), primaries, curve, white))


SPACES: dict[str, tuple] = {
    "adobe": (ADOBE, ADOBE_GAMMA, D65),
    "p3": (P3, "srgb", D65),
    "bt2020": (BT2020, 2.4, D65),
    "linear": (SRGB, 1.0, D65),
    "gamma18": (SRGB, 1.8, D65),
    "prophoto": (PROPHOTO, 1.8, D50),
    "srgb": (SRGB, "srgb", D65),
}


def _profiled() -> list[Written]:
    """Every space × format × name of the profile: content counts, the name does not."""
    files: list[Written] = []
    names = ("A profile", "sRGB IEC61966-2.1", "Not sRGB at all", "", "x" * 300)
    for space, (name, (primaries, curve, white)) in itertools.product(names, SPACES.items()):
        profile = icc_profile(primaries, curve, space, white)
        image = _in(primaries, curve, white)
        for suffix, format in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF")):
            if suffix in ("png", "jpg") or space == names[0]:
                data = encoded(image, format, icc_profile=profile)
                files.append((f"{name}-{len(files)}.{suffix}", data))
    grey = Image.fromarray(stored(np.asarray(_grey().convert("RGB")), SRGB, 1.8)[..., 0])
    files.append(("grey-gamma.png", encoded(grey, "PNG", icc_profile=grey_profile(1.8))))
    good = icc_profile(P3, "srgb", "P3")
    for n, broken in enumerate((good[:100], b"", b"x" * 500, good[:200] + b"\0" * 300)):
        data = encoded(picture(), "PNG", icc_profile=broken)  # a damaged profile says nothing
        files.append((f"damaged-{n}.png", data))
    return files


def _adobe_by_exif() -> list[Written]:
    """Adobe RGB that only EXIF tells: no colour space (65535) and the interoperability R03."""
    wide = _in(ADOBE, ADOBE_GAMMA)
    exif = _exif(space=65535, interop="R03")
    profile = icc_profile(ADOBE, ADOBE_GAMMA, "Adobe RGB (1998)")
    return [
        ("adobe.jpg", encoded(wide, "JPEG", exif=exif)),
        ("adobe-turned.jpg", encoded(wide, "JPEG", exif=_exif(o=1, space=65535, interop="R03"))),
        ("adobe.png", encoded(wide, "PNG", exif=exif)),
        ("adobe.webp", encoded(wide, "WEBP", exif=exif)),
        ("profile-first.jpg", encoded(wide, "JPEG", exif=exif, icc_profile=profile)),
        ("srgb.jpg", encoded(picture(), "JPEG", exif=_exif(space=1, interop="R98"))),
        ("uncalibrated.jpg", encoded(picture(), "JPEG", exif=_exif(space=65535))),
        ("srgb-r98.jpg", encoded(picture(), "JPEG", exif=_exif(space=65535, interop="R98"))),
    ]


def _png_chunks() -> list[Written]:
    """cICP before iCCP before sRGB before gAMA and cHRM, as PNG (third edition) has it."""
    p3, bt2020 = _in(P3, "srgb"), _in(BT2020, "srgb")
    linear = _in(SRGB, 1.0)
    gamma = {name: (b"gAMA", round(100_000 / g).to_bytes(4, "big")) for name, g in GAMMAS.items()}
    wide = icc_profile(P3, "srgb", "P3")

    def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
        return b"cICP", bytes((primaries, transfer, 0, 1))

    def png(image: Image.Image, *chunks: tuple[bytes, bytes], **options: Any) -> bytes:
        return with_chunks(encoded(image, "PNG", **options), list(chunks))

    return [
        ("cicp-p3.png", png(p3, cicp(12, 13))),
        ("cicp-bt2020.png", png(bt2020, cicp(9, 13))),
        ("cicp-srgb.png", png(picture(), cicp(1, 13))),
        ("cicp-linear.png", png(linear, cicp(1, 8))),
        ("cicp-gamma22.png", png(_in(SRGB, 2.2), cicp(1, 4))),
        ("cicp-unspecified.png", png(picture(), cicp(2, 2))),
        ("cicp-first.png", png(picture(), cicp(1, 13), icc_profile=wide)),
        ("cicp-before-gama.png", png(p3, cicp(12, 13), gamma["srgb"])),
        ("gama-linear.png", png(linear, gamma["linear"])),
        ("gama-18.png", png(_in(SRGB, 1.8), gamma["mac"])),
        ("gama-srgb.png", png(picture(), gamma["srgb"])),
        ("gama-chrm-p3.png", png(_in(P3, 2.2), gamma["srgb"], (b"cHRM", chromaticities(P3)))),
        ("chrm-srgb.png", png(picture(), gamma["srgb"], (b"cHRM", chromaticities(SRGB)))),
        ("srgb-chunk.png", png(picture(), (b"sRGB", b"\0"), gamma["linear"])),
        ("icc-before-srgb.png", png(p3, (b"sRGB", b"\0"), icc_profile=wide)),
        ("icc-before-gama.png", png(p3, gamma["linear"], icc_profile=wide)),
        ("gama-zero.png", png(picture(), (b"gAMA", bytes(4)))),
    ]


GAMMAS = {"linear": 1.0, "mac": 1.8, "srgb": 2.2}


def _nclx() -> list[Written]:
    """HEIC and AVIF that tell their primaries by numbers."""
    files = []
    for name, image, primaries in (("p3", _in(P3, "srgb"), 12), ("bt2020", _in(BT2020, "srgb"), 9)):
        numbers = {"color_primaries": primaries, "transfer_characteristics": 13}
        numbers |= {"matrix_coefficients": 6, "full_range_flag": 1}
        files.append((f"{name}.heic", encoded(image, "HEIF", **numbers)))
        avif = bytearray(encoded(image, "AVIF"))
        at = avif.find(b"nclx")
        if at > 0:
            avif[at + 4 : at + 8] = primaries.to_bytes(2, "big") + (13).to_bytes(2, "big")
            files.append((f"{name}.avif", bytes(avif)))
    wide = icc_profile(P3, "srgb", "Display P3")
    files.append(("profile.heic", encoded(_in(P3, "srgb"), "HEIF", icc_profile=wide)))
    files.append(("profile.avif", encoded(_in(P3, "srgb"), "AVIF", icc_profile=wide)))
    return files


def _hdr() -> list[tuple[str, bytes, bytes]]:
    """Return (name, file, what it is as if it were sRGB) of pictures in PQ and HLG."""
    found = []
    for curve, transfer in (("pq", 16), ("hlg", 18)):
        image = Image.fromarray(tone_mapped(curve, np.asarray(picture())))
        plain = encoded(image, "PNG")
        chunk = (b"cICP", bytes((9, transfer, 0, 1)))
        found.append((f"{curve}.png", with_chunks(plain, [chunk]), plain))
        numbers = {"color_primaries": 9, "transfer_characteristics": transfer}
        heic = encoded(image, "HEIF", **numbers, matrix_coefficients=9, full_range_flag=1)
        found.append((f"{curve}.heic", heic, plain))
    return found


def _hdr_case(case: tuple[str, bytes, bytes]) -> tuple[Callable, Callable]:
    """Converted by some tone curve, or left out with the reason; never read as if it were sRGB."""
    name, data, plain = case

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    def check(path: Path) -> None:
        read: list[Image.Image] = []
        error = refusal(lambda: read.append(open_photo(path)))
        if error is not None:
            demand(path.name in error.title, f"refused without its name: {error.title}")
            return
        got = np.asarray(read[0]).astype(int)
        raw = np.asarray(Image.open(io.BytesIO(plain))).astype(int)
        demand(np.abs(got - raw).max() > 16, "read as if it were sRGB")
        demand(np.abs(got - np.asarray(picture()).astype(int)).mean() < 40, "far from the picture")

    return build, check


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
