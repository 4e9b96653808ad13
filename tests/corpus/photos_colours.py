"""Colours told by profiles, EXIF, PNG's chunks and HEIF's numbers; and pictures of a high range."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus.cases import demand, refusal
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
from corpus.drawn import Written, encoded, exif, grey_picture, picture
from PIL import Image

from blockskip.data.photos import open_photo

GAMMAS = {"linear": 1.0, "mac": 1.8, "srgb": 2.2}


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


def profiled() -> list[Written]:
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
    grey = Image.fromarray(stored(np.asarray(grey_picture().convert("RGB")), SRGB, 1.8)[..., 0])
    files.append(("grey-gamma.png", encoded(grey, "PNG", icc_profile=grey_profile(1.8))))
    good = icc_profile(P3, "srgb", "P3")
    for n, broken in enumerate((good[:100], b"", b"x" * 500, good[:200] + b"\0" * 300)):
        data = encoded(picture(), "PNG", icc_profile=broken)  # a damaged profile says nothing
        files.append((f"damaged-{n}.png", data))
    return files


def adobe_by_exif() -> list[Written]:
    """Adobe RGB that only EXIF tells: no colour space (65535) and the interoperability R03."""
    wide = _in(ADOBE, ADOBE_GAMMA)
    told = exif(space=65535, interop="R03")
    profile = icc_profile(ADOBE, ADOBE_GAMMA, "Adobe RGB (1998)")
    return [
        ("adobe.jpg", encoded(wide, "JPEG", exif=told)),
        ("adobe-turned.jpg", encoded(wide, "JPEG", exif=exif(o=1, space=65535, interop="R03"))),
        ("adobe.png", encoded(wide, "PNG", exif=told)),
        ("adobe.webp", encoded(wide, "WEBP", exif=told)),
        ("profile-first.jpg", encoded(wide, "JPEG", exif=told, icc_profile=profile)),
        ("srgb.jpg", encoded(picture(), "JPEG", exif=exif(space=1, interop="R98"))),
        ("uncalibrated.jpg", encoded(picture(), "JPEG", exif=exif(space=65535))),
        ("srgb-r98.jpg", encoded(picture(), "JPEG", exif=exif(space=65535, interop="R98"))),
    ]


def png_chunks() -> list[Written]:
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


def nclx() -> list[Written]:
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


def high_range() -> list[tuple[Callable, Callable]]:
    """Return (build, check) of every picture in PQ or HLG."""
    return [_hdr_case(case) for case in _hdr()]


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
