"""Frames around the pet, drawn by themselves on the draft's photos for a real model's training.

The finder (models/pet_finder.py) looks at photos as they are added. What it has seen is kept, so
another kind of pet is found without looking again. What the user drew or removed stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blockskip.core import files, presets
from blockskip.core.errors import UserError
from blockskip.data.sightings import Sighting
from blockskip.data.subject_boxes import Box
from blockskip.models import pet_finder
from blockskip.studio import draft, draft_frames, tool_view
from blockskip.studio.draft import Draft
from blockskip.studio.formatting import in_words


@dataclass(frozen=True)
class Search:
    """What the page tells of the search. sightings: by file, of the photos that were looked at.
    progress: (number of the photo looked at, photos), None if none is. problem: why it failed.
    offered: whether the finder would be of use, but is not on this computer."""

    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    progress: tuple[int, int] | None = None
    problem: str = ""
    offered: bool = False


def update(saved: Draft, model: str, kind: str) -> tuple[Search, Draft]:
    """Have the photos looked at that were not yet, and draw the frames that are known. Return what
    to tell, and the draft with these frames."""
    photos = _photos(saved, model)
    if not photos:
        return Search(), saved
    if not tool_view.is_ready(pet_finder.TOOL):
        return Search(offered=True), saved
    try:
        problem = _search(list(photos), draft.found_dir())
        sightings = _sightings(photos, kind)
        saved = draft_frames.set_found(
            {file: _edges(seen.frame) for file, seen in sightings.items()}
        )
    except UserError as error:  # the rest of the page is shown all the same
        return Search(problem=in_words(error)), saved
    looking = len(sightings) < len(photos) and problem is None
    progress = (len(sightings) + 1, len(photos)) if looking else None
    return Search(sightings, progress, in_words(problem) if problem else ""), saved


def _search(photos: list[Path], folder: Path) -> UserError | None:
    """Have photos looked at. Return why it failed, if it did and is not tried again."""
    try:
        pet_finder.search(photos, folder)
    except OSError as error:
        raise files.disk_error(folder, error) from error
    return None if pet_finder.is_running(folder) else pet_finder.problem(folder)


def finish(saved: Draft, model: str, kind: str) -> None:
    """Wait until all photos were looked at, and draw their frames; without the finder, do nothing."""
    photos = _photos(saved, model)
    if photos and tool_view.is_ready(pet_finder.TOOL):
        pet_finder.wait(list(photos), draft.found_dir())
        update(saved, model, kind)


def mark_all(kind: str) -> None:
    """Use the frames that were found, else those proposed, on every photo without one."""
    seen = found(kind)
    draft_frames.mark_all({file: edges for file, s in seen.items() if (edges := _edges(s.frame))})


def found(kind: str) -> dict[str, Sighting]:
    """Return what was seen in the draft's photos, by file, where they were looked at."""
    return _sightings({draft.photos_dir() / k.file: k.file for k in draft.load().photos}, kind)


def retry() -> None:
    """Look again, after a failure."""
    pet_finder.forget_problem(draft.found_dir())


def _photos(saved: Draft, model: str) -> dict[Path, str]:
    """Return the photos to look at, path → file: none for a model of drawn pets, and no drawn ones."""
    if presets.model_row(model).demo:
        return {}
    return {draft.photos_dir() / k.file: k.file for k in saved.photos if not k.demo}


def _sightings(photos: Mapping[Path, str], kind: str) -> dict[str, Sighting]:
    found = pet_finder.sightings(list(photos), kind, draft.found_dir())
    return {photos[path]: seen for path, seen in found.items()}


def _edges(box: Box | None) -> tuple[float, ...] | None:
    return None if box is None else (box.left, box.top, box.right, box.bottom)
