"""The box around the pet: where in a photo the crops must look; kept, and proposed.

A box is kept beside its photo as `<name of the photo without its ending>.box.json`, so it goes
where the photo goes, and people who use commands may write one by hand:
`{"left": 0.2, "top": 0.1, "right": 0.8, "bottom": 0.9}`. How crops respect it is data/crops.py's.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from blockskip.core import files

_LONG_PX = 96  # enough to tell a pet from its place
_SWEEPS = 3
_FAINT = 0.15  # steps in colour that grass, gravel or noise have too: 0.10 to 0.15; pets 0.19 up
_LEAST, _MOST = 0.01, 0.75  # share of the photo: less is a speck, more needs no box
_MARGIN = 0.02  # whiskers
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
    """Edges as shares 0 … 1 of the upright photo's width and height. Raises ValueError for a box
    that is empty, not finite or reaches outside the photo."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        edges = (self.left, self.top, self.right, self.bottom)
        known = all(type(edge) in (int, float) and math.isfinite(edge) for edge in edges)
        if not known or not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(f"a box with edges {edges} is not possible")

    @property
    def area(self) -> float:
        """Share of the photo, more than 0, up to 1."""
        return (self.right - self.left) * (self.bottom - self.top)


def box_path(photo: Path) -> Path:
    """Where the box of a photo is kept, whether or not there is one."""
    return photo.with_name(f"{photo.stem}.box.json")


def read_box(photo: Path) -> Box | None:
    """The box beside a photo. None where there is no such file, and where it cannot be read as a
    box: a photo is never refused for its box."""
    try:
        data = files.read_json(box_path(photo))
        return Box(data["left"], data["top"], data["right"], data["bottom"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_box(photo: Path, box: Box | None) -> None:
    """Keep a box beside its photo, or take it away. Raises UserError when the disk is full."""
    if box is None:
        try:
            box_path(photo).unlink(missing_ok=True)
        except OSError as error:
            raise files.disk_error(box_path(photo), error) from error
    else:
        files.write_json(box_path(photo), asdict(box))


def propose_box(image: Image.Image) -> Box | None:
    """A box around what stands out from the photo's border; None when nothing does, or when it
    fills the photo anyway. image: upright, RGB, of any size (fastest shrunk to 160 px).

    Two signs are multiplied, with a mild preference for the middle. Contrast: how far a colour is
    from those of the border, which mostly show the place and not the pet. Barrier: how great a step
    in colour every path from the border to the pixel must take: little on a sky that only fades,
    much behind the outline of an animal. The box is the rectangle that gathers the most of it. It
    knows colours, not animals: to be offered, never used unasked.
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
    """(H, W, 3) in 0 … 1 → lightness and two colour axes, about as far apart as they look."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    return np.cbrt(linear @ _LMS) @ _OKLAB


def _contrast(lab: np.ndarray) -> np.ndarray:
    """(H, W): distance from the colours of each of the four edges, the nearest edge left out."""
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
    """(H, W): the smallest range of values on any path from the border, summed over the channels.

    The minimum barrier distance (Zhang et al., ICCV 2015), by sweeps along rows and columns.
    """
    cost = np.full(lab.shape, np.inf, np.float32)
    cost[0] = cost[-1] = cost[:, 0] = cost[:, -1] = 0
    high, low = lab.copy(), lab.copy()  # of the best path to each pixel so far
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
    """Let the paths to `line` come from the line `before` where that is better."""
    top, bottom = np.maximum(high[before], value[line]), np.minimum(low[before], value[line])
    better = top - bottom < cost[line]
    np.copyto(cost[line], top - bottom, where=better)
    np.copyto(high[line], top, where=better)
    np.copyto(low[line], bottom, where=better)


def _middle(height: int, width: int) -> np.ndarray:
    """(H, W): 1 in the middle of the picture, 0 from its inscribed ellipse outwards."""
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
    """(left, top, right, bottom) of the rectangle with the greatest sum."""
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
