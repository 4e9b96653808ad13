"""Paint the six places of the demo world, softly so that a small model can learn them."""

from __future__ import annotations

import numpy as np

from blockskip.lab.demo_world.shapes import (
    Canvas,
    box,
    convex,
    ellipse,
    mix,
    rgb,
    smoothstep,
    union,
)

WALLS = (rgb("f3e3cf"), rgb("d7e6df"), rgb("dbe2f0"), rgb("f0d9d6"))
SOFAS = (rgb("b8434c"), rgb("3f6ca8"), rgb("4b8a63"), rgb("8b6bb0"))
WHITE = (1.0, 1.0, 1.0)


def _gradient(canvas: Canvas, top, bottom, low: float = 0.0, high: float = 0.7) -> None:
    share = smoothstep(low, high, canvas.y)[..., None]
    canvas.image[:] = np.float32(top) * (1 - share) + np.float32(bottom) * share


def _shade_down(canvas: Canvas, near, far, start: float) -> np.ndarray:
    """Return a colour field from ``far`` (at ``start``) to ``near`` (at the bottom)."""
    share = smoothstep(start, 1.05, canvas.y)[..., None]
    return np.float32(far) * (1 - share) + np.float32(near) * share


def _clouds(canvas: Canvas, rng: np.random.Generator, alpha: float = 0.85) -> None:
    for side in (0.12, 0.86):
        cx, cy = side + rng.uniform(-0.06, 0.06), rng.uniform(0.1, 0.22)
        puffs = [
            ellipse(canvas.x, canvas.y, cx + d, cy + e, r, 0.7 * r)
            for d, e, r in ((-0.08, 0.015, 0.06), (0, -0.01, 0.085), (0.085, 0.015, 0.06))
        ]
        canvas.paint(union(*puffs, soft=0.05), WHITE, alpha, soft=0.03)


def meadow(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a blue sky, two hills and flowers."""
    _gradient(canvas, rgb("5fb2ee"), rgb("d9f0fb"))
    _clouds(canvas, rng)
    x, y = canvas.x, canvas.y
    far = 0.6 - y + 0.03 * np.sin(5 * x + 6.28 * tone)
    canvas.paint(far, _shade_down(canvas, rgb("6fbf5a"), rgb("9bd67f"), 0.58))
    near = 0.72 - y + 0.025 * np.sin(4 * x + 2 + 6.28 * tone)
    canvas.paint(near, _shade_down(canvas, rgb("4d9f42"), rgb("7cc95e"), 0.7))
    for k, cx in enumerate((0.07, 0.2, 0.8, 0.93)):
        cx, cy = cx + rng.uniform(-0.03, 0.03), rng.uniform(0.8, 0.95)
        petal = (rgb("fff6f0"), rgb("ffd84a"), rgb("ff8fb0"))[k % 3]
        canvas.paint(ellipse(x, y, cx, cy, 0.022, 0.02), petal)
        canvas.paint(ellipse(x, y, cx, cy, 0.008, 0.008), rgb("f0a020"))


def beach(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a sun, a band of sea and warm sand."""
    _gradient(canvas, rgb("58c4f0"), rgb("e4f6fb"), 0.0, 0.5)
    x, y = canvas.x, canvas.y
    sun = 0.14 if tone < 0.5 else 0.86
    canvas.paint(ellipse(x, y, sun, 0.15, 0.085, 0.085), rgb("ffe27a"), soft=0.02)
    canvas.paint(0.46 - y, _shade_down(canvas, rgb("49b8cf"), rgb("1f7fc4"), 0.4))
    shore = 0.66 - y + 0.015 * np.sin(7 * x + 6.28 * tone)
    canvas.paint(shore - 0.025, WHITE, 0.8, soft=0.015)
    canvas.paint(shore, _shade_down(canvas, rgb("e8c27c"), rgb("fbe6b4"), 0.62))
    shell = rng.uniform(0.08, 0.18) if tone < 0.5 else rng.uniform(0.82, 0.92)
    canvas.paint(ellipse(x, y, shell, rng.uniform(0.84, 0.93), 0.03, 0.022), rgb("f59a86"))


def snow(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a pale sky, firs under snow, soft drifts and a few flakes."""
    _gradient(canvas, rgb("a9c6e2"), rgb("e6eff7"), 0.0, 0.6)
    x, y = canvas.x, canvas.y
    for cx, h in ((0.08 + 0.06 * tone, 0.36), (0.9 - 0.06 * tone, 0.42)):
        for k in range(3):
            top, wide = 0.64 - h + 0.26 * h * k, 0.055 + 0.03 * k
            tier = [(cx, top), (cx - wide, top + 0.42 * h), (cx + wide, top + 0.42 * h)]
            canvas.paint(convex(x, y, tier[::-1]), rgb("3f7f74"))
            cap = [(cx, top), (cx - 0.4 * wide, top + 0.17 * h), (cx + 0.4 * wide, top + 0.17 * h)]
            canvas.paint(convex(x, y, cap[::-1]), rgb("f4fafd"))
    drift = 0.64 - y + 0.03 * np.sin(4 * x + 6.28 * tone)
    canvas.paint(drift, _shade_down(canvas, rgb("cfdfee"), rgb("fbfdff"), 0.6))
    for _ in range(9):
        cx, cy = rng.uniform(0, 1), rng.uniform(0, 0.6)
        canvas.paint(ellipse(x, y, cx, cy, 0.013, 0.013), WHITE, 0.95)


def room(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a wall with a window over wooden boards."""
    wall = WALLS[int(tone * len(WALLS))]
    _gradient(canvas, wall, mix(wall, (0.5, 0.45, 0.4), 0.14))
    x, y = canvas.x, canvas.y
    cx = (0.16 if rng.random() < 0.5 else 0.84) + rng.uniform(-0.02, 0.02)
    canvas.paint(box(x, y, cx, 0.24, 0.135, 0.16, 0.01), rgb("fffaf2"))
    canvas.paint(box(x, y, cx, 0.24, 0.108, 0.133), rgb("9fd8f6"))
    canvas.paint(
        union(np.abs(x - cx) - 0.012, np.abs(y - 0.24) - 0.012).clip(
            box(x, y, cx, 0.24, 0.12, 0.145), None
        ),
        rgb("fffaf2"),
    )
    canvas.paint(0.67 - y, rgb("fff8ee"))
    canvas.paint(0.695 - y, _shade_down(canvas, rgb("b9733c"), rgb("d79a5e"), 0.68))
    for row in (0.77, 0.86, 0.965):
        canvas.paint(np.abs(y - row) - 0.006, rgb("8f5528"), 0.7)


def sofa(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a sofa of one of four colours, with arms, seat and cushion."""
    index = int(tone * len(SOFAS))
    wall, cloth = WALLS[(index + 1) % len(WALLS)], SOFAS[index]
    _gradient(canvas, wall, mix(wall, (0.5, 0.45, 0.4), 0.12))
    x, y, dark = canvas.x, canvas.y, mix(cloth, (0.1, 0.05, 0.1), 0.35)
    back = box(x, y, 0.5, 0.7, 0.46, 0.36, 0.1)
    canvas.paint(back - 0.008, dark)
    canvas.paint(back, mix(cloth, WHITE, 0.08))
    canvas.paint(np.maximum(np.abs(x - 0.5) - 0.006, back), dark, 0.6)
    canvas.paint(np.maximum(0.79 - y, np.abs(x - 0.5) - 0.46), dark)
    canvas.paint(np.maximum(0.805 - y, np.abs(x - 0.5) - 0.46), mix(cloth, WHITE, 0.18))
    for cx in (0.03, 0.97):
        arm = box(x, y, cx, 0.83, 0.085, 0.23, 0.08)
        canvas.paint(arm - 0.008, dark)
        canvas.paint(arm, cloth)
    cx = (0.2 if rng.random() < 0.5 else 0.8) + rng.uniform(-0.02, 0.02)
    canvas.paint(box(x, y, cx, 0.68, 0.085, 0.085, 0.04), rgb("f6dca0"))


def night(canvas: Canvas, rng: np.random.Generator, tone: float) -> None:
    """Paint a moon and stars over dark hills."""
    _gradient(canvas, rgb("1a1f55"), rgb("4a4f96"))
    x, y = canvas.x, canvas.y
    moon = (0.15 if tone < 0.5 else 0.85) + rng.uniform(-0.02, 0.02)
    canvas.paint(ellipse(x, y, moon, 0.16, 0.1, 0.1), rgb("8f8fc8"), 0.35, soft=0.12)
    canvas.paint(ellipse(x, y, moon, 0.16, 0.09, 0.09), rgb("fff3c4"))
    canvas.paint(ellipse(x, y, moon + 0.025, 0.145, 0.02, 0.02), rgb("ecdca4"))
    for _ in range(8):
        cx, cy = rng.uniform(0, 1), rng.uniform(0, 0.55)
        canvas.paint(ellipse(x, y, cx, cy, 0.012, 0.012), rgb("fff6d8"), 0.9)
    hill = 0.66 - y + 0.03 * np.sin(4 * x + 6.28 * tone)
    canvas.paint(hill, _shade_down(canvas, rgb("1d3b48"), rgb("2f5a66"), 0.64))


PAINTERS = {f.__name__: f for f in (meadow, beach, snow, room, sofa, night)}


def paint_background(canvas: Canvas, name: str, seed: int, tone: float) -> None:
    """Fill the canvas with the place ``name``. ``seed`` places clouds, flowers and stars."""
    PAINTERS[name](canvas, np.random.default_rng(seed), tone)


def paint_shadow(canvas: Canvas, x: float, y: float, scale: float) -> None:
    """Paint a pet's soft shadow on the ground."""
    spot = ellipse(canvas.x, canvas.y, x, y - 0.005, 0.42 * scale, 0.075 * scale)
    canvas.paint(spot, rgb("1a1830"), 0.3, soft=0.08)
