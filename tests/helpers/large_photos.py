"""Photos of 12 megapixels that take few bytes and little time to make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (4032, 3024)


def make_large_photos(folder: Path, count: int, kinds: int = 6) -> list[Path]:
    """Write JPEG files of 12 megapixels. Only `kinds` of them differ in what they show; each has
    bytes of its own after its end, as some cameras leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for kind in range(kinds):
        cells = np.random.default_rng(kind).integers(30, 226, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize(SIZE, Image.Resampling.NEAREST)
        image.save(folder / "kind.jpg", quality=40)
        shown.append((folder / "kind.jpg").read_bytes())
    (folder / "kind.jpg").unlink()
    paths = [folder / f"IMG_{index + 1:04}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(shown[index % kinds] + f"photo {index}".encode())
    return paths
