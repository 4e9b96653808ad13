"""The shipped demo pets."""

from __future__ import annotations

import tomllib
from pathlib import Path

from blockskip.core.errors import BadFile
from blockskip.core.paths import ASSETS


def demo_pet(index: int = 0) -> tuple[Path, str]:
    """Return (folder of photos, class) of a demo pet from assets/demo-photos/pets.toml.

    Raises UserError if that file is missing.
    """
    folder = ASSETS / "demo-photos"
    try:
        pet = tomllib.loads((folder / "pets.toml").read_text(encoding="utf-8"))["pet"][index]
    except OSError as error:
        raise BadFile(
            "The demo photos are missing (assets/demo-photos).", "Download BlockSkip Studio again."
        ) from error
    return folder / pet["folder"], pet["class"]
