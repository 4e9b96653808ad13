"""Convert a picture's colours to sRGB, wherever it says what its numbers mean.

The first source that is present and valid counts: PNG's cICP; an ICC profile; PNG's sRGB; PNG's
cHRM and gAMA; the code points (nclx) of HEIC and AVIF; EXIF. A picture that says nothing is sRGB.
Code points are those of ITU-T H.273, which PNG, HEIC and AVIF share.

HDR (PQ and HLG) becomes SDR by the simplest curve: the reference white of ITU-R BT.2408, 203 cd/m²,
is white. Below it colours are exact; a brighter colour keeps its hue and is dimmed to that white.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from PIL import Image, ImageCms

Convert = Callable[[Image.Image], Image.Image]
Curve = Callable[[np.ndarray], np.ndarray]

_GREY = ("1", "L", "LA", "La", "F")  # and 16 or 32 bits, "I…"
_SAME = 2  # levels of 255: a profile that changes no colour by more is sRGB
_STRIP_PIXELS = 1 << 20
_WHITE_NITS = 203.0  # BT.2408
_HLG_PEAK_NITS = 1000.0  # BT.2100's display, with its system gamma of 1.2
_D65 = (0.3127, 0.3290)
_SRGB_PRIMARIES = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# H.273, table 2: x and y of white, red, green and blue
_PRIMARIES = {
    1: _SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _from_srgb(v: np.ndarray) -> np.ndarray:
    return np.where(v > 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92)


def _from_pq(v: np.ndarray) -> np.ndarray:
    """Return light as a multiple of reference white (SMPTE ST 2084)."""
    power = v ** (32 / 2523)
    ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return ratio ** (16384 / 2610) * (10000 / _WHITE_NITS)


def _from_hlg(v: np.ndarray) -> np.ndarray:
    """Return the light of the scene, 0 … 1, before the display's gamma (BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)


def _from_gamma(gamma: float, v: np.ndarray) -> np.ndarray:
    return v**gamma


def _from_log(decades: float, v: np.ndarray) -> np.ndarray:
    return np.where(v > 0, 10.0 ** (decades * (v - 1)), 0)


# H.273, table 3: value in 0 … 1 → light. The video curves (1, 6, 7, 11, 12, 14, 15) are left as
# sRGB, since programs that mark stills with them write sRGB's values and show them unchanged.
_CURVES: dict[int, Curve] = {
    4: partial(_from_gamma, 2.2),
    5: partial(_from_gamma, 2.8),
    8: partial(_from_gamma, 1.0),
    9: partial(_from_log, 2.0),
    10: partial(_from_log, 2.5),
    16: _from_pq,
    17: lambda v: v**2.6 * 52.37 / 48,
    18: _from_hlg,
}


@dataclass(frozen=True)
class Encoding:
    """The meaning of RGB values. primaries: x and y of white, red, green, blue. curve: value in
    0 … 1 → light. narrow: values use 16 … 235."""

    primaries: Sequence[float] = _SRGB_PRIMARIES
    curve: Curve = _from_srgb
    narrow: bool = False


SRGB = Encoding()
_ADOBE = Encoding((*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), partial(_from_gamma, 563 / 256))


def srgb_converter(image: Image.Image) -> Convert:
    """Return a function that converts pixels of this loaded picture, without alpha, to RGB in
    sRGB."""
    for source in (_cicp, _profile_code_points, _profile, _png_chunks, _nclx, _exif):
        with suppress(Exception):  # of a damaged source: the next one, or unconverted colours
            if (found := source(image)) is not None:
                return found if callable(found) else partial(_apply_encoding, found)
    return _as_rgb


def _as_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")  # a copy, even of RGB


def _apply_encoding(encoding: Encoding, image: Image.Image) -> Image.Image:
    """Convert in strips, since a photo of 200 million pixels in floating point needs gigabytes."""
    image = _as_rgb(image)
    if encoding == SRGB:
        return image
    values = np.arange(256) / 255
    if encoding.narrow:
        values = np.clip((values * 255 - 16) / 219, 0, 1)
    light, matrix = encoding.curve(values).astype(np.float32), _matrix(encoding.primaries)
    pixels = np.array(image)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = light[pixels[top : top + rows]]
        if encoding.curve is _from_hlg:
            luminance = strip @ _BT2020_LUMINANCE
            strip *= luminance[..., None] ** 0.2 * (_HLG_PEAK_NITS / _WHITE_NITS)
        strip = strip @ matrix.T
        if encoding.curve in (_from_pq, _from_hlg):
            strip /= np.maximum(strip.max(-1, keepdims=True), 1)
        pixels[top : top + rows] = _srgb_levels()[
            (strip.clip(0, 1) * 65535 + 0.5).astype(np.uint16)
        ]
    return Image.fromarray(pixels)


def _matrix(primaries: Sequence[float]) -> np.ndarray:
    """Return (3, 3): linear RGB of these primaries → linear sRGB, white to white (Bradford).

    Raises ValueError or LinAlgError for impossible primaries.
    """
    points = np.array(primaries, float).reshape(4, 2)
    if not np.isfinite(points).all() or points[0, 1] <= 0:
        raise ValueError("no chromaticities")
    columns = np.column_stack([points, 1 - points.sum(1)]).T  # (3, 4): white, red, green, blue
    white, target = columns[:, 0] / columns[1, 0], _TO_XYZ.sum(1)
    to_xyz = columns[:, 1:] * np.linalg.solve(columns[:, 1:], white)
    gain = (_BRADFORD @ target) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ (gain[:, None] * _BRADFORD) @ to_xyz
    return (np.linalg.inv(_TO_XYZ) @ adapted).astype(np.float32)


@cache
def _srgb_levels() -> np.ndarray:
    """Return (65536,): light → level of sRGB, 0 … 255."""
    light = np.arange(65536) / 65535
    v = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    return (v * 255).round().astype(np.uint8)


def _code_points(primaries: int, transfer: int, full_range: bool = True) -> Encoding | None:
    """Return the encoding of H.273's code points, None if both are unspecified (2) or unknown.

    A display's sRGB and the video curves are the same here.
    """
    known = primaries in _PRIMARIES or transfer in _CURVES
    if not known and transfer not in (1, 6, 7, 11, 12, 13, 14, 15):
        return None
    encoding = Encoding(
        _PRIMARIES.get(primaries, _SRGB_PRIMARIES),
        _CURVES.get(transfer, _from_srgb),
        not full_range,
    )
    return _checked(encoding)


def _checked(encoding: Encoding) -> Encoding:
    """Return the encoding. Raises ValueError or LinAlgError if its primaries are impossible."""
    _matrix(encoding.primaries)
    return encoding


def _cicp(image: Image.Image) -> Encoding | None:
    """Read PNG's cICP chunk, which Pillow skips."""
    if image.format != "PNG":
        return None
    with open(image.filename, "rb") as file:  # type: ignore[attr-defined]
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"cICP" and length == 4:
                primaries, transfer, matrix, full_range = file.read(4)
                return _code_points(primaries, transfer, bool(full_range)) if not matrix else None
            file.seek(length + 4, io.SEEK_CUR)
    return None


def _profile_code_points(image: Image.Image) -> Encoding | None:
    """Read an ICC profile's code points (tag cicp of ICC.1:2022), which HDR pictures have.

    Their curves in the profile itself would show 203 cd/m² as dark grey.
    """
    data = image.info.get("icc_profile") or b""
    for index in range(min(100, *struct.unpack_from(">I", data, 128))):
        name, offset = struct.unpack_from(">4sI", data, 132 + 12 * index)
        if name == b"cicp":
            primaries, transfer, _, full_range = data[offset + 8 : offset + 12]
            return _code_points(primaries, transfer, bool(full_range))
    return None


def _profile(image: Image.Image) -> Convert | None:
    """Return the conversion of an ICC profile; None if there is none for such a picture."""
    data = image.info.get("icc_profile") or _bmp_profile(image)
    if not data:
        return None
    source = ImageCms.ImageCmsProfile(io.BytesIO(data))
    space = source.profile.xcolor_space.strip()
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
    grey = image.mode in _GREY or image.mode.startswith("I")
    if mode is None or (mode == "L") > grey or (mode == "CMYK") != (image.mode == "CMYK"):
        return None
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, srgb, mode, "RGB")
    if mode != "CMYK":
        probe = _probe().convert(mode)
        changed = np.asarray(transform.apply(probe), np.int16)
        far = np.abs(changed - np.asarray(probe.convert("RGB")))
        if far.max() <= _SAME:
            return _as_rgb
    return lambda pixels: transform.apply(pixels if pixels.mode == mode else pixels.convert(mode))


@cache
def _probe() -> Image.Image:
    """Return the colours on which a profile is compared with sRGB: a cube, and every grey."""
    steps = np.arange(0, 256, 51)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    greys = np.repeat(np.arange(256)[:, None], 3, 1)
    return Image.fromarray(np.concatenate([cube, greys]).astype(np.uint8)[None])


def _bmp_profile(image: Image.Image) -> bytes | None:
    """Return the profile embedded in a BMP (BITMAPV5HEADER), which Pillow skips."""
    if image.format != "BMP":
        return None
    with open(image.filename, "rb") as file:  # type: ignore[attr-defined]
        head = file.read(138)
        if len(head) < 138 or head[14] < 124 or head[70:74] != b"DEBM":  # “MBED”, little-endian
            return None
        offset, size = struct.unpack_from("<2I", head, 126)
        file.seek(14 + offset)
        return file.read(min(size, 1 << 24))


def _png_chunks(image: Image.Image) -> Encoding | None:
    """Read PNG's sRGB, or gAMA and cHRM. A gamma of 1/2.2 is how programs write sRGB's curve."""
    if image.format != "PNG":
        return None
    if "srgb" in image.info:
        return SRGB
    gamma, points = image.info.get("gamma", 0), image.info.get("chromaticity")
    if not gamma and points is None:
        return None
    curve = (
        _from_srgb if abs(gamma - 1 / 2.2) < 0.002 or not gamma else partial(_from_gamma, 1 / gamma)
    )
    with suppress(ValueError, np.linalg.LinAlgError):
        return _checked(Encoding(_srgb_if_close(points or _SRGB_PRIMARIES), curve))
    return Encoding(curve=curve)


def _srgb_if_close(points: Sequence[float]) -> Sequence[float]:
    """Return sRGB's primaries for rounded ones."""
    return _SRGB_PRIMARIES if np.allclose(points, _SRGB_PRIMARIES, atol=2e-3) else points


def _nclx(image: Image.Image) -> Encoding | None:
    """Read the code points of HEIC, which pillow_heif knows, and of AVIF, which Pillow does not."""
    if image.format == "AVIF":
        import pillow_heif

        info = pillow_heif.open_heif(image.filename).info  # type: ignore[attr-defined]
    else:
        info = image.info
    nclx = info.get("nclx_profile")
    # the decoder has already widened narrow values
    return nclx and _code_points(nclx["color_primaries"], nclx["transfer_characteristics"])


def _exif(image: Image.Image) -> Encoding | None:
    """Read EXIF's colour space: Adobe RGB is 2, or “uncalibrated” with the interoperability index
    R03 (DCF 2.0); others are told by white point, primaries and gamma."""
    exif = image.getexif()
    photo = exif.get_ifd(0x8769)
    space, index = photo.get(0xA001), ""
    with suppress(Exception):  # Pillow raises KeyError if there is no such directory
        index = str(exif.get_ifd(0xA005).get(1, "")).strip("\x00 ")
    if space == 1:
        return SRGB
    if space == 2 or index == "R03":
        return _ADOBE
    points = (*exif.get(0x013E, ()), *exif.get(0x013F, ()))
    if len(points) != 8:
        return None
    gamma = float(photo.get(0xA500, 0))
    curve = partial(_from_gamma, gamma) if gamma > 0 else _from_srgb
    return _checked(Encoding(_srgb_if_close([float(point) for point in points]), curve))
