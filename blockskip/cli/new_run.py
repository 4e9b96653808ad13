"""Make a run from the terminal, and say what a user should know of its photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from blockskip.cli.errors import console
from blockskip.core import presets
from blockskip.core.errors import BadInput
from blockskip.core.settings import Settings
from blockskip.models import sources
from blockskip.runs.run import Run, create_run


def shared(settings: Settings, processes: int) -> Settings:
    """Return settings in which several processes have the same share of a step's draws.

    Raises BadInput if they cannot be shared.
    """
    draws = settings.plan.draws_per_step
    if draws % processes:
        raise BadInput(
            f"The {draws} pictures of a step cannot be shared by {processes} processes.",
            f"Give a --batch that {processes} divides.",
        )
    own = draws // processes
    batch = max(size for size in range(1, settings.plan.batch + 1) if own % size == 0)
    return settings.changed(batch=batch, accumulation=draws // batch, processes=processes)


def make_run(
    settings: Settings, paths: Sequence[Path], out: str, framed: bool, held_out: int | None
) -> Run:
    """Create a run. framed: whether to look for the pet where a photo has no frame. held_out: how
    many photos, None for the usual rule.

    Raises UserError before that if the model or the photos are unusable.
    """
    from blockskip.cli.frames import found_frames
    from blockskip.data.captions import notes
    from blockskip.data.photos import read_photos
    from blockskip.runs import hold_out

    sources.find_model(presets.model_row(settings.model))
    good, bad = read_photos(paths, settings.subject_caption)
    used = [photo.path for photo in good]
    left_out = [f"{rejected.name} is left out: {rejected.reason}." for rejected in bad]
    for note in left_out + notes(used, settings):
        console.print(Text(note, style="yellow"))
    frames = found_frames(used, settings) if framed else {}
    unseen = hold_out.chosen(used, settings, held_out, frames)
    for note in hold_out.notes(unseen):
        console.print(Text(note, style="yellow"))
    return create_run(settings, used, out, frames, unseen)
