"""Look for the pet before a run is made, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from blockskip.cli.errors import console
from blockskip.core.errors import command
from blockskip.core.repositories import tool_row
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.data.photo_checks import sighted
from blockskip.data.subject_boxes import Box
from blockskip.models import pet_finder
from blockskip.models.sources.tools import has_tool
from blockskip.runs import pet_frames


def found_frames(photos: Sequence[Path], settings: Settings) -> dict[Path, Box]:
    """Return frames for the photos that have none, and print what a user should know of the others.
    Without the finder, say how to get it."""
    asked = pet_frames.wanted(photos, settings)
    if not asked:
        return {}
    if not has_tool(pet_finder.TOOL):
        row = tool_row(pet_finder.TOOL)
        size = f"{row.download_gib * GIB / 2**20:.0f} MB, {row.licence}"
        fetch = f"{command('models fetch')} {row.name}"
        _print(f"{row.title} would draw the frame around your pet ({size}): {fetch}", "dim")
        return {}
    with console.status("") as status:
        found = pet_frames.find(
            photos,
            settings,
            lambda n, all_in: status.update(f"Looking for your pet in photo {n} of {all_in}"),
            lambda problem: _print(f"{problem} The photos get no frames.", "yellow"),
        )
    for photo, seen in found.items():
        for finding in sighted(seen, None):
            _print(f"{photo.name}: {finding.text}", "yellow")
    frames = pet_frames.frames(found)
    if found:
        _print(f"The pet was found in {len(frames)} of {len(asked)} photos.", "")
    return frames


def _print(words: str, style: str) -> None:
    console.print(Text(words, style=style))
