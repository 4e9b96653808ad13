"""Render a pet in a scene to pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from blockskip.lab.demo_world.backgrounds import paint_background, paint_shadow
from blockskip.lab.demo_world.pets import PetPainter, paint_accessory
from blockskip.lab.demo_world.shapes import Canvas, rgb
from blockskip.lab.demo_world.world import WEAR, Pet, Scene


def render(pet: Pet, scene: Scene, size: int | tuple[int, int] = 64, seed: int = 0) -> np.ndarray:
    """Draw a picture, uint8 RGB (height, width, 3).

    ``size`` is a square's side or (width, height) in pixels. ``seed`` places clouds, flowers and
    stars. Smaller pictures are drawn at a multiple of at least 128 px and shrunk (Lanczos), as a
    photo would be.
    """
    width, height = (size, size) if isinstance(size, int) else size
    factor = int(np.ceil(128 / min(width, height)))
    canvas = Canvas.blank(width * factor, height * factor, scene.look, scene.zoom)
    paint_background(canvas, scene.background, seed, scene.tone)
    paint_shadow(canvas, scene.x, scene.y, scene.scale)
    painter = PetPainter(canvas, pet, scene)
    painter.paint()
    if scene.accessory != "none":
        paint_accessory(painter, scene.accessory, WEAR[scene.wear])
    if scene.background == "night":
        canvas.lay(rgb("1c2460"), np.full(canvas.x.shape, 0.14, np.float32))
    pixels = (canvas.image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if factor == 1:
        return pixels
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small)
