"""Contact sheets for the ablation: one pet, a line of pictures per row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.ablation.tables import tables
from blockskip.lab.measuring.sheets import contact_sheet, save_sheet, split_strip

# file → tables; one sheet per model
SHEETS = {"ablation-pictures.webp": ("B", "A", "D", "F"), "ablation-pictures-sana.webp": ("SANA",)}
CELL_PX = 64


def write_sheets(work: Sequence[Path], out: Path) -> list[Path]:
    """Write the sheets of the first reported pet, seed 0, and return their paths. The pictures come
    from `lab ablate`'s folders `work`, the pet's photos first. A sheet without pictures is left as
    it is."""
    paths = [_write(work, shown, out / name) for name, shown in SHEETS.items()]
    return [path for path in paths if path]


def _write(work: Sequence[Path], shown: Sequence[str], path: Path) -> Path | None:
    pet = subjects(1)[0].key
    by_name = {file.name: file for folder in work for file in folder.glob("pictures/*.png")}
    rows = {row.key: row.title for key in shown for row in tables()[key].variants}
    strips = []
    for key, title in rows.items():
        # pictures of the untrained model are filed under the steps of the trainings
        names = sorted(name for name in by_name if name.startswith(f"{key} {pet}-0 "))
        if names:
            strips.append((title, split_strip(by_name[names[-1]])))
    if not strips:
        return None
    photos = [sorted((folder / "photos" / pet).glob("*.png")) for folder in work]
    real = [Image.open(photo) for photo in max(photos, key=len)]
    save_sheet(contact_sheet([("its photos", real), *strips], CELL_PX), path)
    return path
