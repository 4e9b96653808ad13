"""Colours as standards define them: primaries, transfer curves, ICC profiles and PNG's chunks.

Written from IEC 61966-2-1 (sRGB), Adobe RGB (1998), SMPTE EG 432-1 (Display P3), ITU-R BT.2020,
BT.2100 and H.273, independently of the program.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

D65, D50 = (0.3127, 0.3290), (0.34567, 0.35850)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
BT2020 = ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))  # its white is D50
ADOBE_GAMMA = 563 / 256
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_SRGB_CURVE = "srgb"
Curve = str | float  # "srgb", or a gamma


def _xyz(xy: tuple[float, float]) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def to_xyz(primaries: tuple, white: tuple[float, float] = D65) -> np.ndarray:
    """Return the matrix from linear RGB to XYZ under the white."""
    columns = np.stack([_xyz(xy) for xy in primaries], 1)
    return columns * np.linalg.solve(columns, _xyz(white))


def adapted(matrix: np.ndarray, white: tuple[float, float]) -> np.ndarray:
    """Return the matrix for the white D50, as ICC profiles have it (Bradford)."""
    gain = (_BRADFORD @ _xyz(D50)) / (_BRADFORD @ _xyz(white))
    return np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ matrix


def linear(value: np.ndarray, curve: Curve) -> np.ndarray:
    """Return linear light of a signal, both 0 … 1."""
    if curve == _SRGB_CURVE:
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return value ** float(curve)


def signal(light: np.ndarray, curve: Curve) -> np.ndarray:
    """Invert `linear`."""
    light = np.clip(light, 0, 1)
    if curve == _SRGB_CURVE:
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return light ** (1 / float(curve))


def stored(srgb: np.ndarray, primaries: tuple, curve: Curve, white: tuple = D65) -> np.ndarray:
    """Return how a colour space stores a picture of 8-bit sRGB (…, 3): 8-bit values."""
    light = linear(np.asarray(srgb) / 255, _SRGB_CURVE)
    to_pcs, from_pcs = adapted(to_xyz(SRGB), D65), adapted(to_xyz(primaries, white), white)
    own = light @ (np.linalg.inv(from_pcs) @ to_pcs).T
    return np.rint(signal(own, curve) * 255).astype(np.uint8)


def icc_profile(
    primaries: tuple, curve: Curve, name: str, white: tuple = D65, kind: bytes = b"mntr"
) -> bytes:
    """Return an ICC profile (version 2.1) of a colour space with three primaries."""
    columns = adapted(to_xyz(primaries, white), white)
    text = name.encode("ascii", "replace") + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz_tag(_xyz(D50))}
    for letter, column in zip("rgb", columns.T, strict=True):
        tags[f"{letter}XYZ".encode()] = _xyz_tag(column)
        tags[f"{letter}TRC".encode()] = _curve_tag(curve)
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02100000) + kind + b"RGB XYZ "
    head += bytes(12) + b"acsp" + bytes(28) + _numbers(_xyz(D50)) + bytes(128)
    return head[:128] + struct.pack(">I", len(tags)) + table + body


def grey_profile(gamma: float) -> bytes:
    """Return an ICC profile of a grey scale."""
    tags = {b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz_tag(_xyz(D50))}
    tags |= {b"kTRC": _curve_tag(gamma), b"desc": b"desc\0\0\0\0\0\0\0\x05grey\0" + bytes(78)}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), b"lcms", 0x02100000) + b"mntrGRAYXYZ "
    head += bytes(12) + b"acsp" + bytes(28) + _numbers(_xyz(D50)) + bytes(128)
    return head[:128] + struct.pack(">I", len(tags)) + table + body


def _numbers(values: np.ndarray) -> bytes:
    return struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _numbers(values)


def _curve_tag(curve: Curve) -> bytes:
    if curve == _SRGB_CURVE:
        table = linear(np.linspace(0, 1, 1024), curve)
        values = np.rint(table * 65535).astype(">u2").tobytes()
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + values
    if float(curve) == 1:
        return b"curv\0\0\0\0" + struct.pack(">I", 0)
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(float(curve) * 256))


def with_chunks(png: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG with chunks (type, data) after its header."""
    out = io.BytesIO()
    out.write(png[:33])
    for kind, data in chunks:
        out.write(struct.pack(">I", len(data)) + kind + data)
        out.write(struct.pack(">I", zlib.crc32(kind + data)))
    out.write(png[33:])
    return out.getvalue()


def chromaticities(primaries: tuple, white: tuple = D65) -> bytes:
    """Return the data of PNG's cHRM chunk."""
    numbers = [*white, *(value for xy in primaries for value in xy)]
    return struct.pack(">8I", *(round(value * 100_000) for value in numbers))


def tone_mapped(name: str, srgb: np.ndarray) -> np.ndarray:
    """Return the 8-bit signal of a picture in BT.2020 with PQ or HLG, its white at 203 cd/m²."""
    light = linear(np.asarray(srgb) / 255, _SRGB_CURVE)
    wide = np.clip(light @ (np.linalg.inv(to_xyz(BT2020)) @ to_xyz(SRGB)).T, 0, 1)
    if name == "pq":
        power = (wide * 203 / 10_000) ** 0.1593017578125
        value = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        scene = wide * 0.2645  # reference white at 75 % of the signal
        value = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )
    return np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
