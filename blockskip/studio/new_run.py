"""Make a run of the draft's photos, or of photos that a program uploads, and a draft of a run."""

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
from blockskip.studio import draft, held_out, removed_photos, run_preferences


def from_draft(settings: Settings) -> Run:
    """Create a run of the draft. Raises UserError."""
    answers = {"model": settings.model, "seed": settings.seed}
    unseen = held_out.find(draft.load(), answers).files
    paths = draft.write_photo_files()
    return create_run(settings, paths, held_out=[p for p in paths if p.name in unseen])


def to_draft(old: Run) -> None:
    """Put a run's photos and answers back in the draft, to train again."""
    settings, folders = old.settings(), [old.photos_dir]
    if old.held_out_dir.is_dir():
        folders.append(old.held_out_dir)
    removed_photos.clear(replaced=True)
    now = draft.add(folders, demo=bool(run_preferences.load(old).get("drawn")))
    if len(folders) > 1:
        unseen = {path.name for path in old.held_out_dir.iterdir()}
        draft.hold_out({photo.file: photo.name in unseen for photo in now.photos})
    draft.save_answers(
        kind=settings.class_name,
        name=run_preferences.pet_name(old),
        model=settings.model,
        budget=settings.budget_gib,
        steps=settings.steps,
        rank=settings.rank,
        seed=settings.seed,
        speed=settings.plan.preview_speed,
    )


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
