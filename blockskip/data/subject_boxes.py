"""Store and propose the box around the pet, which guides the crops of a photo.

A box is stored beside its photo as `<stem of the photo>.box.json`, so that it moves with the photo
and can be written by hand: `{"left": 0.2, "top": 0.1, "right": 0.8, "bottom": 0.9}`. A box that the
finder of pets drew also has `"drawn_by": "finder"`; any other file is the user's, who may also have
removed the box: `{"drawn_by": "user"}`. data/crops.py describes how crops respect it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from blockskip.core import files

FINDER, USER = "finder", "user"  # who drew or removed a box; "" = nobody
_LONG_PX = 96  # enough to distinguish a pet from its background
_SWEEPS = 3
_FAINT = 0.15  # colour steps: grass, gravel or noise reach 0.10 to 0.15, pets 0.19 or more
_LEAST, _MOST = 0.01, 0.75  # share of the photo: less is a speck, more needs no box
_MARGIN = 0.02  # for whiskers
# linear RGB → cone responses → lightness and two colour axes: OKLab (Björn Ottosson, 2020)
_LMS = np.array(
    [[0.41222, 0.21190, 0.08830], [0.53633, 0.68070, 0.28172], [0.05145, 0.10740, 0.62998]],
    np.float32,
)
_OKLAB = np.array(
    [[0.21045, 1.97800, 0.02590], [0.79362, -2.42859, 0.78277], [-0.00407, 0.45059, -0.80868]],
    np.float32,
)


@dataclass(frozen=True)
class Box:
    """A box, with edges as shares 0 … 1 of the upright photo's width and height.

    Raises ValueError if it is empty, not finite or extends beyond the photo.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        edges = (self.left, self.top, self.right, self.bottom)
        finite = all(type(edge) in (int, float) and math.isfinite(edge) for edge in edges)
        if not finite or not (
            0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1
        ):
            raise ValueError(f"a box with edges {edges} is not possible")

    @property
    def area(self) -> float:
        """Share of the photo, above 0 and up to 1."""
        return (self.right - self.left) * (self.bottom - self.top)


def box_path(photo: Path) -> Path:
    """Return the path of a photo's box file, which need not exist."""
    return photo.with_name(f"{photo.stem}.box.json")


def read_box(photo: Path) -> Box | None:
    """Read a photo's box. Returns None if its file is missing or invalid, since a bad box must not
    reject the photo."""
    try:
        data = files.read_json(box_path(photo))
        return Box(data["left"], data["top"], data["right"], data["bottom"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def box_author(photo: Path) -> str:
    """Return who drew or removed a photo's box: FINDER | USER | "". A file that cannot be read is
    the user's."""
    try:
        data = files.read_json(box_path(photo))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return USER
    return FINDER if data.get("drawn_by") == FINDER else USER


def write_box(photo: Path, box: Box | None, author: str = "") -> None:
    """Write a photo's box file, or delete it if there is neither a box nor a user who removed it.
    author: as in `box_author`. Raises UserError on a disk error."""
    if box is None and author != USER:
        try:
            box_path(photo).unlink(missing_ok=True)
        except OSError as error:
            raise files.disk_error(box_path(photo), error) from error
        return
    said = asdict(box) if box else {}
    marked = box is None or author == FINDER
    files.write_json(box_path(photo), said | ({"drawn_by": author} if marked else {}))


def propose_box(image: Image.Image) -> Box | None:
    """Propose a box around whatever stands out from the photo's border.

    Returns None if nothing stands out, or if it fills most of the photo. image: upright RGB of any
    size (fastest at 160 px). Salience is the product of two measures, with a mild preference for
    the middle. Contrast is the distance from the border's colours, which mostly belong to the
    background. Barrier is the colour range that every path from the border to the pixel must
    cross: small in a fading sky, large inside the outline of an animal. The box is the rectangle
    with the most salience. It depends on colours and does not recognise animals, so it should only
    be offered as a suggestion.
    """
    small = image.convert("RGB")
    small.thumbnail((_LONG_PX, _LONG_PX), Image.Resampling.BOX)
    lab = _lab(np.asarray(small.filter(ImageFilter.GaussianBlur(1)), np.float32) / 255)
    if min(lab.shape[:2]) < 8:
        return None
    barrier = _barrier(lab)
    if np.percentile(barrier, 99) < _FAINT:
        return None
    salience = np.sqrt(_scaled(barrier) * _scaled(_contrast(lab)))
    salience = _scaled(salience * (0.6 + 0.4 * _middle(*salience.shape)))
    left, top, right, bottom = _best_rectangle(salience - 0.5 * _otsu(salience))
    height, width = salience.shape
    if not _LEAST < (right - left) * (bottom - top) / (width * height) < _MOST:
        return None
    return Box(
        max(0, left / width - _MARGIN),
        max(0, top / height - _MARGIN),
        min(1, right / width + _MARGIN),
        min(1, bottom / height + _MARGIN),
    )


def _lab(rgb: np.ndarray) -> np.ndarray:
    """Convert RGB (H, W, 3) in 0 … 1 to OKLab, in which distances match perceived differences."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    return np.cbrt(linear @ _LMS) @ _OKLAB


def _contrast(lab: np.ndarray) -> np.ndarray:
    """Return (H, W): summed distances from the colours of three photo edges, not the nearest."""
    height, width, _ = lab.shape
    deep = max(1, round(0.08 * min(height, width)))
    strips = (lab[:deep], lab[-deep:], lab[:, :deep], lab[:, -deep:])
    far = []
    for strip in strips:
        flat = strip.reshape(-1, 3)
        spread = np.cov(flat.T) + 1e-3 * np.eye(3)
        gap = lab - flat.mean(0)
        far.append(np.sqrt(np.einsum("hwi,ij,hwj->hw", gap, np.linalg.inv(spread), gap)))
    return np.sort([f / f.max() for f in far], 0)[:3].sum(0)


def _barrier(lab: np.ndarray) -> np.ndarray:
    """Return (H, W): the smallest range of values on any path from the border, over all channels.

    Computes the minimum barrier distance (Zhang et al., ICCV 2015), summed over the channels, by
    sweeps along rows and columns.
    """
    cost = np.full(lab.shape, np.inf, np.float32)
    cost[0] = cost[-1] = cost[:, 0] = cost[:, -1] = 0
    high, low = lab.copy(), lab.copy()  # extremes on the best path to each pixel so far
    for _ in range(_SWEEPS):
        for axis in (0, 1):
            lines = [np.swapaxes(values, 0, axis) for values in (cost, high, low, lab)]
            last = len(lines[0]) - 1
            for line in range(1, last + 1):
                _relax(line, line - 1, *lines)
            for line in range(last - 1, -1, -1):
                _relax(line, line + 1, *lines)
    return cost.sum(-1)


def _relax(
    line: int, before: int, cost: np.ndarray, high: np.ndarray, low: np.ndarray, value: np.ndarray
) -> None:
    """Update the pixels of `line` that are reached at lower cost from the line `before`."""
    top, bottom = np.maximum(high[before], value[line]), np.minimum(low[before], value[line])
    better = top - bottom < cost[line]
    np.copyto(cost[line], top - bottom, where=better)
    np.copyto(high[line], top, where=better)
    np.copyto(low[line], bottom, where=better)


def _middle(height: int, width: int) -> np.ndarray:
    """Return (H, W): 1 in the middle of the picture, 0 on and outside its inscribed ellipse."""
    y = np.abs(np.linspace(-1, 1, height))[:, None]
    x = np.abs(np.linspace(-1, 1, width))[None]
    return 1 - np.minimum(1, np.hypot(x, y)) ** 2


def _scaled(values: np.ndarray) -> np.ndarray:
    top = np.percentile(values, 99)
    return np.clip(values / max(top, 1e-6), 0, 1)


def _otsu(values: np.ndarray) -> float:
    counts, edges = np.histogram(values, 64, (0, 1))
    middle = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    mean_below = (counts * middle).cumsum() / np.maximum(1, below)
    mean_above = ((counts * middle).sum() - (counts * middle).cumsum()) / np.maximum(1, above)
    return float(middle[np.argmax(below * above * (mean_above - mean_below) ** 2)])


def _best_rectangle(gain: np.ndarray) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the rectangle with the greatest sum."""
    height, width = gain.shape
    down = np.vstack([np.zeros((1, width)), gain.cumsum(0)])
    first, last = np.triu_indices(height + 1, 1)
    rows = down[last] - down[first]  # (pairs, width)
    total = np.cumsum(rows, 1)
    before = np.minimum.accumulate(np.hstack([np.zeros((len(rows), 1)), total[:, :-1]]), 1)
    best = total - before
    pair, right = np.unravel_index(np.argmax(best), best.shape)
    starts = np.concatenate([[0.0], total[pair, :right]])
    return int(np.argmin(starts)), int(first[pair]), int(right) + 1, int(last[pair])
