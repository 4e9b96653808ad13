"""What the ablation's figures look like: one pet, a line of pictures a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from blockskip.lab.ablation.subjects import subjects
from blockskip.lab.ablation.tables import tables
from blockskip.lab.measuring.sheets import contact_sheet, save_sheet, split_strip

# file → tables: a sheet a model
SHEETS = {"ablation-pictures.webp": ("B", "A", "D", "F"), "ablation-pictures-sana.webp": ("SANA",)}
CELL_PX = 64


def write_sheets(work: Sequence[Path], out: Path) -> list[Path]:
    """The sheets of the first reported pet, seed 0, from what `lab ablate` keeps in folders `work`; its
    photos come first. Those of which no picture is there stay as they are."""
    made = [_write(work, shown, out / name) for name, shown in SHEETS.items()]
    return [path for path in made if path]


def _write(work: Sequence[Path], shown: Sequence[str], path: Path) -> Path | None:
    pet = subjects(1)[0].key
    kept = {found.name: found for folder in work for found in folder.glob("pictures/*.png")}
    rows = {row.key: row.title for key in shown for row in tables()[key].variants}
    told = []
    for key, title in rows.items():
        # the untrained model's are kept under the steps that a training would have had
        names = sorted(name for name in kept if name.startswith(f"{key} {pet}-0 "))
        if names:
            told.append((title, split_strip(kept[names[-1]])))
    if not told:
        return None
    photos = [sorted((folder / "photos" / pet).glob("*.png")) for folder in work]
    real = [Image.open(photo) for photo in max(photos, key=len)]
    save_sheet(contact_sheet([("its photos", real), *told], CELL_PX), path)
    return path
