"""Make a run of the draft's photos, or of photos that a program uploads."""

from __future__ import annotations

import secrets
from pathlib import Path

from blockskip.core import files
from blockskip.core.paths import data_dir
from blockskip.core.settings import Settings
from blockskip.data import photos
from blockskip.data.caption_files import Captions, is_caption_file
from blockskip.runs import pet_frames
from blockskip.runs.run import Run, create_run
from blockskip.studio import draft


def from_draft(settings: Settings) -> Run:
    """Create a run of the draft. Raises UserError."""
    return create_run(settings, draft.write_photo_files())


def from_uploads(settings: Settings, uploads: list[str]) -> Run:
    """Create a run of photos and captions. Raises UserError."""
    paths = [Path(path) for path in uploads]
    texts = [path for path in paths if is_caption_file(path)]
    captions = Captions(texts, same_folder=False)
    good, _ = photos.read_photos([path for path in paths if path not in texts], "")
    with files.temporary_folder(data_dir() / f"uploads-{secrets.token_hex(4)}") as folder:
        clean = []
        for photo in good:
            clean.append(folder / f"{files.fingerprint(photo.sha)}.png")
            photos.reencode(photo.path, clean[-1])
            if text := captions.of(photo.path) or photo.caption:
                files.write_text(clean[-1].with_suffix(".txt"), text)
        found = pet_frames.find(clean, settings)
        return create_run(settings, clean, frames=pet_frames.frames(found))
