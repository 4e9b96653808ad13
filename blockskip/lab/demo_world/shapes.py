"""Signed-distance shapes and the canvas they are painted on.

Every shape is a signed distance (negative inside) evaluated on the whole pixel grid, so that edges
are antialiased analytically at any size with NumPy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Colour = tuple[float, float, float]


def rgb(code: str) -> Colour:
    """Return a hexadecimal colour such as ``f4a261`` as floats in [0, 1]."""
    return tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour at ``share`` of the way from ``a`` to ``b``."""
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Return 0 below ``low``, 1 above ``high``, and smooth values between."""
    s = np.clip((value - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0):
    """Return the distance to an ellipse (first-order approximation), turned by ``turn`` radians."""
    x, y = x - cx, y - cy
    if turn:
        c, s = float(np.cos(turn)), float(np.sin(turn))
        x, y = c * x + s * y, c * y - s * x
    k0 = np.sqrt((x / rx) ** 2 + (y / ry) ** 2)
    k1 = np.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2) + 1e-6
    return k0 * (k0 - 1) / k1


def capsule(x: Array, y: Array, a: tuple, b: tuple, ra: float, rb: float | None = None):
    """Return the distance to a stroke from ``a`` (radius ``ra``) to ``b`` (radius ``rb``)."""
    rb = ra if rb is None else rb
    ux, uy = b[0] - a[0], b[1] - a[1]
    h = np.clip(((x - a[0]) * ux + (y - a[1]) * uy) / (ux * ux + uy * uy + 1e-9), 0, 1)
    return np.hypot(x - a[0] - ux * h, y - a[1] - uy * h) - (ra + (rb - ra) * h)


def box(x: Array, y: Array, cx: float, cy: float, hx: float, hy: float, r: float = 0.0):
    """Return the distance to a rectangle of half sides ``hx``, ``hy``, corners rounded by ``r``."""
    qx, qy = np.abs(x - cx) - hx + r, np.abs(y - cy) - hy + r
    return np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - r


def convex(x: Array, y: Array, points: list[tuple], r: float = 0.0):
    """Return the distance (exact inside, approximate outside) to a convex polygon,
    counter-clockwise, y up."""
    d = np.full_like(x, -1e9)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        n = float(np.hypot(bx - ax, by - ay))
        d = np.maximum(d, ((by - ay) * (x - ax) - (bx - ax) * (y - ay)) / n)
    return d - r


def star(x: Array, y: Array, cx: float, cy: float, r: float):
    """Return the approximate distance to an upright five-pointed star of outer radius ``r``."""
    x, y = x - cx, y - cy
    angle = np.abs((np.arctan2(x, y) / (2 * np.pi / 5) + 0.5) % 1.0 - 0.5) * (2 * np.pi / 5)
    rho = np.hypot(x, y)
    px, py = rho * np.cos(angle), rho * np.sin(angle)
    a, b = (r, 0.0), (0.45 * r * math.cos(math.pi / 5), 0.45 * r * math.sin(math.pi / 5))
    n = math.hypot(b[0] - a[0], b[1] - a[1])
    return ((b[1] - a[1]) * (px - a[0]) - (b[0] - a[0]) * (py - a[1])) / n


def union(*shapes: Array, soft: float = 0.0) -> Array:
    """Return the nearest of several distances, blended over ``soft`` units where they meet."""
    d = shapes[0]
    for other in shapes[1:]:
        if soft:
            h = np.clip(0.5 + 0.5 * (other - d) / soft, 0, 1)
            d = other + (d - other) * h - soft * h * (1 - h)
        else:
            d = np.minimum(d, other)
    return d


@dataclass
class Canvas:
    """A picture being painted: ``image`` (H, W, 3) in [0, 1], with ``x``, ``y`` (H, W) in scene
    units.

    Scene units: the short side of the whole view is 1, (0.5, 0.5) its middle, y down.
    """

    image: Array
    x: Array
    y: Array
    pixel: float

    @classmethod
    def blank(cls, width: int, height: int, centre=(0.5, 0.5), zoom: float = 1.0) -> Canvas:
        """Return an empty canvas of ``width`` x ``height`` pixels, centred on ``centre``."""
        pixel = 1 / (min(width, height) * zoom)
        x = centre[0] + (np.arange(width, dtype=np.float32) - (width - 1) / 2) * pixel
        y = centre[1] + (np.arange(height, dtype=np.float32) - (height - 1) / 2) * pixel
        gx, gy = np.meshgrid(x, y)
        return cls(np.zeros((height, width, 3), np.float32), gx, gy, pixel)

    def window(self, left: float, right: float, top: float, bottom: float) -> Canvas:
        """Return a view of the canvas inside these scene units. Painting on it changes the
        canvas."""
        columns = np.flatnonzero((self.x[0] >= left) & (self.x[0] <= right))
        rows = np.flatnonzero((self.y[:, 0] >= top) & (self.y[:, 0] <= bottom))
        if not len(columns) or not len(rows):
            columns, rows = np.array([0]), np.array([0])
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.image[part], self.x[part], self.y[part], self.pixel)

    def cover(self, distance: Array, soft: float = 0.0, unit: float = 1.0) -> Array:
        """Return the coverage (H, W) of a shape measured in units of ``unit`` scene units."""
        return np.clip(0.5 - distance / (1.2 * self.pixel / unit + soft), 0, 1)

    def lay(self, colour: Colour | Array, alpha: Array) -> None:
        """Blend in ``colour`` (one colour or an (H, W, 3) field) by ``alpha`` (H, W)."""
        field = np.asarray(colour, np.float32)
        self.image += (field - self.image) * alpha[..., None]

    def paint(self, distance: Array, colour, alpha: float = 1.0, soft: float = 0.0, unit=1.0):
        """Fill a shape with a colour."""
        self.lay(colour, self.cover(distance, soft, unit) * alpha)
