"""Arrange pictures side by side: contact sheets, and strips that store a sampled batch."""

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
    """Return a sheet with one row per label, pictures enlarged (Lanczos) to ``cell`` px."""
    columns, label_height = max(len(images) for _, images in rows), 14
    sheet = Image.new(
        "RGB", (columns * (cell + 4) + 4, len(rows) * (cell + label_height + 4)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for y, (label, images) in enumerate(rows):
        top = y * (cell + label_height + 4)
        draw.text((4, top + 1), label, "black")
        for x, image in enumerate(images):
            sheet.paste(square(image, cell), (4 + x * (cell + 4), top + label_height))
    return sheet


def square(image: Image.Image, cell: int) -> Image.Image:
    """Return the centre square of a picture, as the judge sees it, at ``cell`` px."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS, box=box)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a WebP if the name ends so, else a PNG, atomically."""
    buffer, webp = io.BytesIO(), path.suffix == ".webp"
    sheet.save(buffer, "WEBP", quality=88) if webp else sheet.save(buffer, "PNG", optimize=True)
    files.write_bytes(path, buffer.getvalue())


def make_strip(images: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one size side by side."""
    line = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    for k, image in enumerate(images):
        line.paste(image, (image.width * k, 0))
    return line


def split_strip(path: Path) -> list[Image.Image]:
    """Return the square pictures of a strip's file."""
    with Image.open(path) as line:
        side = line.height
        return [line.crop((x, 0, x + side, side)) for x in range(0, line.width, side)]
