"""Where a model's weights come from: a folder in the layout diffusers saves (the demo model is
one).

Caches and runs are keyed by what the weights are (a fingerprint), never by a name.
"""

from __future__ import annotations

import json
from pathlib import Path

from blockskip import files
from blockskip.config import ROOT, ModelRow
from blockskip.events import UserError


def find_model(row: ModelRow) -> Path:
    """The folder of a model. Raises UserError when it is not on this machine."""
    folder = Path(row.source) if Path(row.source).is_absolute() else ROOT / row.source
    if (folder / "model_index.json").exists():
        return folder
    if row.name == "demo":
        raise UserError(
            f"The demo model is missing ({row.source}).",
            "Download BlockSkip Studio again, or make the model anew: blockskip lab pretrain-demo",
        )
    raise UserError(
        f"{row.title} is not on this machine.",
        "This version trains the demo model; real models come with the next one.",
    )


def fingerprint(folder: Path) -> str:
    """16 hex digits that change when any weight file or configuration of the model does.

    Of large files the header, the size and both ends are read, not the gigabytes between.
    """
    parts: list[object] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            parts += [path.relative_to(folder).as_posix(), _canonical(path)]
        elif path.suffix == ".safetensors":
            parts += [path.relative_to(folder).as_posix(), path.stat().st_size, _ends(path)]
    return files.fingerprint(*parts)


def _canonical(path: Path) -> str:
    return json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)


def _ends(path: Path, size: int = 8 << 20) -> bytes:
    with open(path, "rb") as file:
        head = file.read(size)
        file.seek(max(size, path.stat().st_size - size))
        return head + file.read(size)
