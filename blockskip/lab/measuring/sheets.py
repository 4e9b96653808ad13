"""Pictures side by side: sheets to look at, and strips that keep what was sampled together."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from blockskip.core import files

CELL_PX = 192  # 64 px pictures enlarged three times


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], cell: int = CELL_PX
) -> Image.Image:
    """One row a label, pictures enlarged (Lanczos) to ``cell`` px."""
    columns, strip = max(len(images) for _, images in rows), 14
    sheet = Image.new("RGB", (columns * (cell + 4) + 4, len(rows) * (cell + strip + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (label, images) in enumerate(rows):
        top = y * (cell + strip + 4)
        draw.text((4, top + 1), label, "black")
        for x, image in enumerate(images):
            sheet.paste(square(image, cell), (4 + x * (cell + 4), top + strip))
    return sheet


def square(image: Image.Image, cell: int) -> Image.Image:
    """The middle square of a picture, as the judge sees it, at ``cell`` px."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS, box=box)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG, or a WebP where the name ends so, atomically."""
    buffer, small = io.BytesIO(), path.suffix == ".webp"
    sheet.save(buffer, "WEBP", quality=88) if small else sheet.save(buffer, "PNG", optimize=True)
    files.write_bytes(path, buffer.getvalue())


def make_strip(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in a line."""
    line = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    for k, image in enumerate(images):
        line.paste(image, (image.width * k, 0))
    return line


def split_strip(path: Path) -> list[Image.Image]:
    """The square pictures of a strip's file."""
    with Image.open(path) as line:
        side = line.height
        return [line.crop((x, 0, x + side, side)) for x in range(0, line.width, side)]
