"""Copy photos, with their captions and boxes, into the folders of a new run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from blockskip.core import files, names
from blockskip.core.settings import Settings
from blockskip.data.caption_files import Captions, captions_beside
from blockskip.data.captions import training_caption

_MAX_SUFFIX = 8  # characters of a photo's ending


def copy_photos(photos: Sequence[Path], folders: Sequence[Path], settings: Settings) -> None:
    """Copy each photo into its folder, under a name that begins with its number. Raises OSError,
    UserError."""
    captions = captions_beside(photos)
    for index, (photo, folder) in enumerate(zip(photos, folders, strict=True)):
        folder.mkdir(parents=True, exist_ok=True)
        _copy_photo(photo, folder, index, settings, captions)


def _copy_photo(
    photo: Path, folder: Path, index: int, settings: Settings, captions: Captions
) -> None:
    """Copy a photo, its completed caption and its box."""
    suffix = photo.suffix.lower() if photo.suffix[1:].isalnum() and photo.suffix.isascii() else ""
    stem = names.safe_name(photo.stem if suffix else photo.name.replace(".", "_"), "photo")
    target = folder / f"{index:03d}-{stem}{suffix[:_MAX_SUFFIX]}"
    shutil.copyfile(photo, target)
    if photo.with_suffix(".box.json").exists():
        shutil.copyfile(photo.with_suffix(".box.json"), target.with_suffix(".box.json"))
    if text := captions.of(photo):
        text = training_caption(text, settings.trigger, settings.class_name)
        files.write_text(target.with_suffix(".txt"), text + "\n")
