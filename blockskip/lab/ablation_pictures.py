"""What the ablation's figures look like: one pet, a line of pictures a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from blockskip.lab.evaluate import contact_sheet, save_sheet
from blockskip.lab.reported import subjects
from blockskip.lab.rows import tables

SHOWN = ("B", "A", "D", "F", "SANA")  # tables
CELL_PX = 64


def write_sheet(work: Sequence[Path], path: Path) -> Path | None:
    """The sheet of the first reported pet, seed 0, from what `lab ablate` keeps in folders `work`; its
    photos come first. None where no picture of it is there."""
    pet = subjects(1)[0].key
    kept = {found.name: found for folder in work for found in folder.glob("pictures/*.png")}
    rows = {row.key: row.title for key in SHOWN for row in tables()[key].rows}
    told = []
    for key, title in rows.items():
        # the untrained model's are kept under the steps that a training would have had
        names = sorted(name for name in kept if name.startswith(f"{key} {pet}-0 "))
        if names:
            told.append((title, _cut(kept[names[-1]])))
    if not told:
        return None
    photos = [sorted((folder / "photos" / pet).glob("*.png")) for folder in work]
    real = [Image.open(photo) for photo in max(photos, key=len)]
    save_sheet(contact_sheet([("its photos", real), *told], CELL_PX), path)
    return path


def _cut(path: Path) -> list[Image.Image]:
    """A strip's square pictures."""
    with Image.open(path) as strip:
        side = strip.height
        return [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width, side)]
