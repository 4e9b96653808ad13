"""Copy photos, with their captions and boxes, into the folders of a new run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from blockskip.core import files, names
from blockskip.core.settings import Settings
from blockskip.data.caption_files import Captions, captions_beside
from blockskip.data.captions import training_caption
from blockskip.data.subject_boxes import FINDER, Box, write_box

_MAX_SUFFIX = 8  # characters of a photo's ending


def copy_photos(
    folders: Mapping[Path, Path], settings: Settings, frames: Mapping[Path, Box]
) -> None:
    """Copy each photo into its folder, under a name that begins with its number. frames: boxes that
    were found, for photos without a box file. Raises OSError, UserError."""
    captions = captions_beside(list(folders))
    for index, (photo, folder) in enumerate(folders.items()):
        folder.mkdir(exist_ok=True)
        _copy_photo(photo, folder, index, settings, captions, frames.get(photo))


def _copy_photo(
    photo: Path, folder: Path, index: int, settings: Settings, captions: Captions, frame: Box | None
) -> None:
    """Copy a photo, its completed caption and its box."""
    suffix = photo.suffix.lower() if photo.suffix[1:].isalnum() and photo.suffix.isascii() else ""
    stem = names.safe_name(photo.stem if suffix else photo.name.replace(".", "_"), "photo")
    target = folder / f"{index:03d}-{stem}{suffix[:_MAX_SUFFIX]}"
    shutil.copyfile(photo, target)
    if photo.with_suffix(".box.json").exists():
        shutil.copyfile(photo.with_suffix(".box.json"), target.with_suffix(".box.json"))
    elif frame is not None:
        write_box(target, frame, FINDER)
    if text := captions.of(photo):
        text = training_caption(text, settings.trigger, settings.class_name)
        files.write_text(target.with_suffix(".txt"), text + "\n")
