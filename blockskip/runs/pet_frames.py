"""Frames around the pet for a new run, from the finder (models/pet_finder.py)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.paths import make_data_dir
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.data.sightings import Sighting
from blockskip.data.subject_boxes import Box, box_author
from blockskip.models import pet_finder
from blockskip.models.sources.tools import has_tool


def wanted(photos: Sequence[Path], settings: Settings) -> list[Path]:
    """Return the photos whose frame nobody has drawn or removed; none for a model of drawn pets."""
    if model_row(settings.model).demo:
        return []
    return [photo for photo in photos if not box_author(photo)]


def find(
    photos: Sequence[Path],
    settings: Settings,
    progress: pet_finder.Progress = lambda *_: None,
    failed: Callable[[UserError], object] = lambda _: None,
) -> dict[Path, Sighting]:
    """Look for the pet in the `wanted` photos. Return what was seen in each, {} without the finder.

    progress: as of pet_finder.wait. failed: called with the reason if the finder breaks off.
    """
    asked = wanted(photos, settings)
    if not asked or not has_tool(pet_finder.TOOL):
        return {}
    folder = make_data_dir() / f"frames-{secrets.token_hex(4)}"
    with files.temporary_folder(folder) as work:
        try:
            pet_finder.wait(asked, work, progress)
            if problem := pet_finder.problem(work):
                failed(problem)
            return pet_finder.sightings(asked, settings.class_name, work)
        finally:
            pet_finder.stop(work)


def frames(found: Mapping[Path, Sighting]) -> dict[Path, Box]:
    """Return the frames of the photos in which the pet was found."""
    return {photo: seen.frame for photo, seen in found.items() if seen.frame}
