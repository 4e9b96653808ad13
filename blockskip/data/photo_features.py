"""Measure a photo at a small size: sharpness, light, colours, similarity to other photos.

Each file is measured once and the result is cached by its hash, so that opening 200 photos again
reads none of them. Most features exist for each cell of a grid over the photo, so that the pet's
cells can be judged alone if its box is known. data/photo_checks.py interprets the features.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from blockskip.core import files
from blockskip.core.validation import validated
from blockskip.data.photos import file_sha, open_small

GRID = 6  # cells along each axis
LOOK_PX = 512  # short side at which sharpness is measured, FLUX's training size
HASH_CELLS = 12
_FAINTEST = 4  # grey levels per pixel: a weaker slope is shading, noise or rounding, not an edge
_VERSION = 1  # of the features; cached ones of other versions are measured again
# regions for finding near-duplicates: the full photo, and slight crops
_REGIONS = [(0.0, 0.0, 1.0, 1.0)] + [
    (x * (1 - k), y * (1 - k), x * (1 - k) + k, y * (1 - k) + k)
    for k in (0.92, 0.84)
    for x, y in ((0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1))
]


@dataclass(frozen=True)
class Features:
    """Features of one photo. Tuples have one item per cell of a 6 x 6 grid, row by row.

    width, height: upright, in pixels. soft: blur of the sharpest edges, (along x, along y), as σ in
    pixels of the photo scaled to a short side of at most 512; 0 in a cell without edges. white:
    share of pure white pixels. lightest: 95th percentile of the brightness, 0 … 255. colours: mean
    RGB, 0 … 255. hashes: 144 bits each, in hex, of the photo, of slight crops and, last, of its
    mirror image.
    """

    width: int
    height: int
    soft: tuple[tuple[float, float], ...]
    white: tuple[float, ...]
    lightest: float
    colours: tuple[tuple[int, int, int], ...]
    hashes: tuple[Annotated[str, Field(pattern="^[0-9a-f]{36}$")], ...]

    @property
    def short_px(self) -> int:
        return min(self.width, self.height)


def features(path: Path, cache_dir: Path | None = None) -> Features:
    """Measure a photo, or return its cached features.

    cache_dir: folder with a small file per photo, named by its hash. Within one process, an
    unchanged file is never read again. Raises UserError (UnusablePhoto) if the file is no photo.
    """
    try:
        stat = path.stat()
    except OSError:
        return _measure_file(path)  # raises an error for people
    return _cached_features(path, stat.st_size, stat.st_mtime_ns, cache_dir)


def from_dict(data: dict) -> Features:
    """Recreate features from the JSON of `asdict`. Raises ValueError."""
    photo = validated(Features, data, "features", error=files.Unreadable)
    if {len(photo.soft), len(photo.colours), len(photo.white)} != {GRID * GRID}:
        raise ValueError("features of another grid")
    return photo


@lru_cache(maxsize=1024)
def _cached_features(
    path: Path, size_bytes: int, changed_ns: int, cache_dir: Path | None
) -> Features:
    if cache_dir is None:
        return _measure_file(path)
    cache_file = cache_dir / f"{file_sha(path)}-{_VERSION}.json"
    try:
        return from_dict(files.read_json(cache_file))
    except (OSError, ValueError):
        photo = _measure_file(path)
        files.write_json(cache_file, asdict(photo))
        return photo


def _measure_file(path: Path) -> Features:
    image, (width, height) = open_small(path, LOOK_PX)
    return replace(measure(image), width=width, height=height)


def measure(image: Image.Image) -> Features:
    """Measure an upright RGB picture of any size."""
    width, height = image.size
    factor = LOOK_PX / min(width, height)
    if factor < 1:
        size = (max(LOOK_PX, round(width * factor)), max(LOOK_PX, round(height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = np.asarray(image.resize((GRID * 16, GRID * 16), Image.Resampling.BOX))
    cells = small.reshape(GRID, 16, GRID, 16, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 256, 3)
    grey = image.convert("L")
    return Features(
        width=width,
        height=height,
        soft=_softness(np.asarray(grey, np.float32)),
        white=tuple(round(float(x), 3) for x in (cells.min(-1) >= 250).mean(1)),
        lightest=float(np.percentile(np.asarray(grey), 95)),
        colours=tuple((int(r), int(g), int(b)) for r, g, b in cells.mean(1).round()),
        hashes=_hashes(grey),
    )


def _softness(grey: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Estimate (σ along x, σ along y) per cell by blurring the steepest edges once more.

    An edge of blur σ has a slope proportional to 1/σ. Blurred again by σ₀ = 1, its slope is
    proportional to 1/√(σ² + σ₀²). The ratio R of the slopes gives σ = σ₀ / √(R² − 1) (Zhuo and Sim,
    2011). Both axes are measured, since a moving pet is blurred along one of them only.
    """
    blurred = _blur(grey)
    both = []
    for axis in (1, 0):
        before, after = (_slope(values, axis) for values in (grey, blurred))
        rows = zip(np.array_split(before, GRID), np.array_split(after, GRID), strict=True)
        both.append(
            [
                _edge_width(a, b)
                for row in rows
                for a, b in zip(*(np.array_split(r, GRID, 1) for r in row), strict=True)
            ]
        )
    return tuple(zip(*both, strict=True))


def _edge_width(before: np.ndarray, after: np.ndarray) -> float:
    steep = before >= max(_FAINTEST, np.quantile(before, 0.97)) if before.size else before > 0
    if np.count_nonzero(steep) < 3:
        return 0.0
    ratio = float(np.median(before[steep] / np.maximum(after[steep], 1e-3)))
    return round(1 / math.sqrt(max(ratio * ratio - 1, 1e-3)), 2)


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    """Compute absolute central differences along an axis, in grey levels per pixel, without the
    border."""
    return np.abs(np.roll(values, -1, axis) - np.roll(values, 1, axis))[1:-1, 1:-1] / 2


def _blur(values: np.ndarray) -> np.ndarray:
    """Apply a Gaussian blur of σ = 1 pixel in floating point, since Pillow's rounds to integers."""
    weights = np.exp(-0.5 * np.arange(-3, 4, dtype=np.float32) ** 2)
    for _ in range(2):
        padded = np.pad(values, ((3, 3), (0, 0)), "edge")
        length = len(values)
        values = sum(w * padded[i : i + length] for i, w in enumerate(weights / weights.sum())).T
    return values


def _hashes(grey: Image.Image) -> tuple[str, ...]:
    parts = [grey.resize((180, 180), Image.Resampling.BOX)]
    for part in _REGIONS[1:]:
        left, top, right, bottom = (round(180 * edge) for edge in part)
        parts.append(parts[0].crop((left, top, right, bottom)))
    return tuple(_hash(part) for part in [*parts, ImageOps.mirror(parts[0])])


def _hash(grey: Image.Image) -> str:
    """Compute a difference hash: 144 bits in hex, set if brightness rises from left to right."""
    small = grey.resize((HASH_CELLS + 1, HASH_CELLS), Image.Resampling.BOX)
    values = np.asarray(small, np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes().hex()
