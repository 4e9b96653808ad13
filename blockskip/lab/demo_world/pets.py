"""Draw a pet, a sitting storybook animal made of soft shapes, in its own coordinates.

Pet coordinates: u to the right, v up, (0, 0) between the front paws, 1 about the top of the head.
"""

from __future__ import annotations

import numpy as np

from blockskip.lab.demo_world.shapes import (
    Array,
    Canvas,
    Colour,
    capsule,
    convex,
    ellipse,
    mix,
    rgb,
    smoothstep,
    star,
    union,
)
from blockskip.lab.demo_world.world import EYES, FUR, Pet, Scene

DARK = rgb("2a2230")
INNER_EAR = rgb("f2a8a4")
# head radii, body width, and size relative to the other species
SHAPE = {
    "cat": (0.265, 0.215, 1.0, 1.0),
    "dog": (0.24, 0.225, 1.02, 1.03),
    "rabbit": (0.225, 0.205, 0.92, 0.9),
    "bear": (0.27, 0.228, 1.12, 1.03),
}
HEAD_V = 0.70
SPOTS = (
    (-0.12, 0.33, 0.06),
    (0.13, 0.25, 0.065),
    (-0.2, 0.14, 0.055),
    (0.02, 0.15, 0.05),
    (0.22, 0.08, 0.05),
    (0.0, 0.87, 0.055),
    (-0.17, 0.79, 0.05),
    (0.19, 0.62, 0.05),
    (0.36, 0.16, 0.05),
    (0.43, 0.32, 0.045),
    (-0.27, 0.3, 0.04),
)


class PetPainter:
    """Paints one pet into one scene."""

    def __init__(self, canvas: Canvas, pet: Pet, scene: Scene) -> None:
        """Prepare to paint on ``canvas``, which already holds the background."""
        unit = scene.scale * SHAPE[pet.species][3]
        reach = (scene.x - 0.62 * unit, scene.x + 0.62 * unit)
        canvas = canvas.window(*reach, scene.y - 1.3 * unit, scene.y + 0.06 * unit)
        self.canvas, self.pet, self.unit = canvas, pet, unit
        x, y = (canvas.x - scene.x) / unit, (scene.y - canvas.y) / unit
        c, s = float(np.cos(scene.tilt)), float(np.sin(scene.tilt))
        self.u, self.v = c * x + s * y, c * y - s * x
        if scene.mirror:
            self.u = -self.u
        self.coat, self.second = FUR[pet.coat], FUR[pet.second]
        self.mark = FUR[pet.mark]
        self.edge = 0.55 if pet.coat != "black" else 0.5
        self.body_field, self.head_field = (
            self._fur(self._body_mask()),
            self._fur(self._head_mask()),
        )

    def _fur(self, mask: Array) -> Array:
        """Return a colour field (H, W, 3): coat, pattern where ``mask`` is 1, and faint strokes."""
        field = np.float32(self.coat) * (1 - mask)[..., None]
        field += np.float32(self.second) * mask[..., None]
        strokes = np.sin(95 * self.u + 4 * np.sin(17 * self.v)) * np.sin(26 * self.v + 9 * self.u)
        return field * (1 + 0.035 * strokes)[..., None]

    def _soft(self, distance: Array, soft: float = 0.012) -> Array:
        return 1 - smoothstep(-soft, soft, distance)

    def _body_mask(self) -> Array:
        u, v, kind = self.u, self.v, self.pet.pattern
        if kind == "striped":
            bands = np.abs((v + 0.5 * u * u + 0.02) % 0.15 - 0.075) - 0.033
            tail = np.abs((v + 0.25 * u) % 0.13 - 0.065) - 0.03
            return self._soft(np.where(np.abs(u) > 0.3, tail, bands))
        if kind == "spotted":
            return self._soft(union(*(ellipse(u, v, a, b, r, r) for a, b, r in SPOTS)))
        if kind == "bellied":
            tip = ellipse(u, v, 0.47, 0.45, 0.1, 0.1)
            return self._soft(union(ellipse(u, v, 0, 0.26, 0.135, 0.22), tip))
        if kind == "patched":
            parts = (
                ellipse(u, v, 0.24, 0.16, 0.15, 0.17),
                ellipse(u, v, -0.15, 0.36, 0.1, 0.11),
                ellipse(u, v, 0.47, 0.42, 0.12, 0.12),
            )
            return self._soft(union(*parts))
        return np.zeros_like(u)

    def _head_mask(self) -> Array:
        u, v, kind = self.u, self.v, self.pet.pattern
        if kind == "striped":
            top = union(
                *(
                    capsule(u, v, (a, 0.99), (0.6 * a, 0.83 + abs(a)), 0.026)
                    for a in (-0.1, 0.0, 0.1)
                )
            )
            side = union(
                *(capsule(np.abs(u), v, (0.3, b), (0.19, b - 0.01), 0.02) for b in (0.6, 0.68))
            )
            ears = np.abs((v + 0.02) % 0.13 - 0.065) - 0.028
            return self._soft(np.where(v > 0.98, ears, union(top, side)))
        if kind == "spotted":
            extra = ((0.16, 1.05, 0.045), (-0.17, 1.15, 0.045))
            return self._soft(union(*(ellipse(u, v, a, b, r, r) for a, b, r in (*SPOTS, *extra))))
        if kind == "bellied":
            return self._soft(ellipse(u, v, 0, 0.55, 0.17, 0.115))
        if kind == "patched":
            return self._soft(
                union(ellipse(u, v, 0.17, 0.86, 0.16, 0.2), ellipse(u, v, 0.2, 1.15, 0.14, 0.22))
            )
        return np.zeros_like(u)

    def ink(self, distance: Array, colour: Colour | Array, alpha=1.0, soft: float = 0.0) -> None:
        """Paint a shape given in pet units."""
        self.canvas.paint(distance, colour, alpha, soft, self.unit)

    def fur(self, distance: Array, field: Array, depth: float = 0.1) -> None:
        """Paint a furry part with a thin dark outline, darker edges and light from the upper
        left."""
        shade = 0.8 + 0.2 * smoothstep(0, depth, -distance) + 0.05 * np.clip(-self.u, -0.5, 0.5)
        self.ink(distance - 0.012, field * self.edge)
        self.ink(distance, np.clip(field * shade[..., None] * 1.03, 0, 1))

    def paint(self) -> None:
        """Paint tail, body, legs, ears, head and face, back to front."""
        self._tail()
        self._body()
        self._ears()
        self._head()
        self._eyes()
        self._muzzle()

    def _tail(self) -> None:
        u, v, field = self.u, self.v, self.body_field
        if self.pet.species == "cat":
            tail = union(
                capsule(u, v, (0.2, 0.07), (0.4, 0.1), 0.055),
                capsule(u, v, (0.4, 0.1), (0.47, 0.27), 0.055),
                capsule(u, v, (0.47, 0.27), (0.44, 0.44), 0.055, 0.05),
                soft=0.04,
            )
        elif self.pet.species == "dog":
            tail = union(
                capsule(u, v, (0.2, 0.1), (0.4, 0.2), 0.06, 0.07),
                capsule(u, v, (0.4, 0.2), (0.47, 0.38), 0.07, 0.03),
                soft=0.05,
            )
        elif self.pet.species == "rabbit":
            tail, field = ellipse(u, v, 0.31, 0.1, 0.095, 0.09), mix(self.coat, (1, 1, 1), 0.6)
            field = np.broadcast_to(np.float32(field), (*u.shape, 3))
        else:
            tail = ellipse(u, v, 0.3, 0.12, 0.07, 0.07)
        self.fur(tail, field, 0.06)

    def _body(self) -> None:
        u, v, pet = self.u, self.v, self.pet
        wide = SHAPE[pet.species][2]
        haunch = ellipse(np.abs(u), v, 0.185 * wide, 0.115, 0.12, 0.115)
        trunk = union(
            ellipse(u, v, 0, 0.25, 0.225 * wide, 0.255),
            ellipse(u, v, 0, 0.42, 0.165 * wide, 0.17),
            soft=0.08,
        )
        self.fur(union(trunk, haunch, soft=0.05), self.body_field, 0.12)
        foot = np.float32(self.mark) if pet.socks else None
        for side in (-1, 1):
            leg = capsule(u, v, (0.075 * side, 0.27), (0.09 * side, 0.05), 0.052, 0.058)
            crease = self.canvas.cover(np.abs(leg) - 0.007, 0.006, self.unit)
            self.canvas.lay(mix(self.coat, DARK, 0.4), crease * (1 - smoothstep(0.16, 0.26, v)))
        for a, rx in ((-0.235, 0.085), (0.235, 0.085), (-0.092, 0.078), (0.092, 0.078)):
            a *= wide if abs(a) > 0.2 else 1
            paw = ellipse(u, v, a, 0.035, rx, 0.048)
            if foot is not None:
                paw = union(paw, ellipse(u, v, a, 0.075, rx * 0.78, 0.05), soft=0.03)
            self.fur(
                paw,
                self.body_field if foot is None else np.zeros_like(self.body_field) + foot,
                0.05,
            )
        if pet.star:
            shape = star(u, v, 0, 0.335, 0.115)
            self.ink(shape - 0.012, mix(self.mark, DARK, 0.35))
            self.ink(shape, self.mark)

    def _ears(self) -> None:
        v, side = self.v, np.abs(self.u)
        field, species = self.head_field, self.pet.species
        if species == "cat":
            points = [(0.045, 0.86), (0.262, 0.72), (0.235, 1.04)]
            self.fur(convex(side, v, points, 0.02), field, 0.06)
            inner = [(0.11, 0.88), (0.235, 0.82), (0.22, 0.985)]
            self.ink(convex(side, v, inner, 0.01), INNER_EAR)
        elif species == "rabbit":
            self.fur(ellipse(side, v, 0.12, 1.02, 0.072, 0.22, -0.13), field, 0.05)
            self.ink(ellipse(side, v, 0.122, 1.02, 0.034, 0.165, -0.13), INNER_EAR)
        elif species == "bear":
            self.fur(ellipse(side, v, 0.2, 0.885, 0.09, 0.09), field, 0.05)
            self.ink(ellipse(side, v, 0.2, 0.885, 0.045, 0.045), mix(self.coat, INNER_EAR, 0.65))

    def _head(self) -> None:
        u, v, pet = self.u, self.v, self.pet
        rx, ry = SHAPE[pet.species][:2]
        head = union(
            ellipse(u, v, 0, HEAD_V, rx, ry),
            ellipse(np.abs(u), v, 0.12, HEAD_V - 0.08, 0.13, 0.12),
            soft=0.06,
        )
        self.fur(head, self.head_field, 0.11)
        inside = self.canvas.cover(head + 0.004, 0.0, self.unit)
        if pet.patch:
            self.canvas.lay(
                self.second, inside * self._soft(ellipse(u, v, 0.115, 0.735, 0.1, 0.11))
            )
        if pet.blaze:
            self.canvas.lay(
                self.mark,
                inside
                * self._soft(
                    union(
                        capsule(u, v, (0, 0.98), (0, 0.75), 0.035, 0.03),
                        ellipse(u, v, 0, 0.6, 0.09, 0.075),
                        soft=0.06,
                    )
                ),
            )
        if pet.species == "dog":
            ear = union(capsule(np.abs(u), v, (0.205, 0.83), (0.275, 0.62), 0.06, 0.085), soft=0.0)
            self.fur(ear, self.head_field * 0.86, 0.07)

    def _eyes(self) -> None:
        u, v, cat = self.u, self.v, self.pet.species == "cat"
        a, b = 0.112, 0.725
        for side, name in ((-1, self.pet.eye), (1, self.pet.right)):
            cu, colour = a * side, EYES[name]
            self.ink(ellipse(u, v, cu, b, 0.078, 0.082), DARK)
            self.ink(ellipse(u, v, cu, b - 0.004, 0.063, 0.067), colour)
            self.ink(ellipse(u, v, cu, b, 0.026 if cat else 0.038, 0.054 if cat else 0.042), DARK)
            self.ink(ellipse(u, v, cu - 0.026, b + 0.03, 0.024, 0.024), (1, 1, 1))
            self.ink(ellipse(u, v, cu + 0.026, b - 0.034, 0.012, 0.012), (1, 1, 1), 0.8)

    def _muzzle(self) -> None:
        u, v, species = self.u, self.v, self.pet.species
        pale = mix(self.mark if self.pet.blaze else self.coat, (1, 0.98, 0.95), 0.6)
        nose, size = (rgb("e8788a"), 0.03) if species in ("cat", "rabbit") else (DARK, 0.048)
        low = {"cat": 0.6, "dog": 0.59, "rabbit": 0.6, "bear": 0.59}[species]
        if species in ("dog", "bear"):
            self.ink(ellipse(u, v, 0, low - 0.02, 0.125, 0.098), mix(pale, DARK, 0.12), soft=0.02)
            self.ink(ellipse(u, v, 0, low - 0.018, 0.115, 0.09), pale, soft=0.02)
        else:
            puff = ellipse(np.abs(u), v, 0.048, low - 0.025, 0.06, 0.05)
            self.ink(puff, pale, soft=0.02)
        if species == "dog":
            self.ink(ellipse(u, v, 0, low - 0.085, 0.034, 0.045), rgb("f0788c"))
        elif species == "rabbit":
            self.ink(ellipse(u, v, 0, low - 0.085, 0.026, 0.03), (1, 1, 1))
        line = union(
            capsule(u, v, (0, low), (0, low - 0.05), 0.008),
            capsule(np.abs(u), v, (0.004, low - 0.055), (0.03, low - 0.066), 0.008),
            capsule(np.abs(u), v, (0.03, low - 0.066), (0.062, low - 0.045), 0.008),
        )
        self.ink(line, DARK, 0.85)
        self.ink(ellipse(u, v, 0, low + 0.012, size * 1.15, size * 0.85), nose)
        self.ink(ellipse(u, v, -0.012, low + 0.022, 0.01, 0.007), (1, 1, 1), 0.6)
        for cheek in (-1, 1):
            self.ink(ellipse(u, v, 0.19 * cheek, 0.6, 0.04, 0.028), rgb("f08090"), 0.35, soft=0.03)


def paint_accessory(painter: PetPainter, kind: str, colour: Colour) -> None:
    """Paint a collar with a bell, a scarf or a hat on the pet just painted."""
    u, v, dark = painter.u, painter.v, mix(colour, DARK, 0.4)
    if kind in ("collar", "scarf"):
        thick = 0.034 if kind == "collar" else 0.055
        curve = np.abs(v - 0.475 - 0.9 * u * u) - thick
        band = np.maximum(curve, np.abs(u) - 0.195)
        if kind == "scarf":
            end = convex(u, v, [(-0.15, 0.46), (-0.15, 0.2), (-0.05, 0.2), (-0.03, 0.46)], 0.015)
            painter.ink(end - 0.012, dark)
            painter.ink(end, colour)
        painter.ink(band - 0.012, dark)
        painter.ink(band, colour)
        if kind == "collar":
            painter.ink(ellipse(u, v, 0, 0.42, 0.045, 0.045), rgb("9a6a10"))
            painter.ink(ellipse(u, v, 0, 0.42, 0.034, 0.034), rgb("ffd54a"))
    elif kind == "hat":
        brim = ellipse(u, v, 0, 0.895, 0.2, 0.042)
        crown = convex(u, v, [(-0.12, 0.9), (0.12, 0.9), (0.1, 1.1), (-0.1, 1.1)], 0.02)
        painter.ink(union(brim, crown) - 0.012, dark)
        painter.ink(crown, colour)
        painter.ink(np.maximum(np.abs(v - 0.945) - 0.022, crown), mix(colour, (1, 1, 1), 0.65))
        painter.ink(brim, colour)
