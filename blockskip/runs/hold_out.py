"""Which of a new run's photos are held out of training (data/held_out.py), by the user's wish.

Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from blockskip.core.errors import BadInput
from blockskip.core.presets import model_row
from blockskip.core.settings import Settings
from blockskip.data import held_out
from blockskip.data.photo_features import features
from blockskip.data.subject_boxes import Box, read_box
from blockskip.models.sources.tools import has_tool

JUDGE = "likeness"  # of presets/tools.toml


def applies(model: str) -> bool:
    """Return whether photos are held out of a model's training unless the user says otherwise: of
    real models, once the judge of likeness was downloaded, for which they are."""
    return not model_row(model).demo and has_tool(JUDGE)


def chosen(
    photos: Sequence[Path],
    settings: Settings,
    wanted: int | None,
    frames: Mapping[Path, Box],
) -> list[Path]:
    """Return the photos to hold out. wanted: how many, None for the rule of `applies`. frames: of
    photos without a box file.

    Raises UserError if that is not possible, or for a file that is no photo.
    """
    if wanted == 0 or (wanted is None and not applies(settings.model)):
        return []
    if model_row(settings.model).demo:
        raise BadInput(
            "No photos are held out of the demo model’s training.",
            "Its judge knows the drawn pets; leave --hold-out away.",
        )
    if wanted is not None and wanted >= len(photos):
        raise BadInput(
            f"{wanted} of {len(photos)} photos cannot be held out.", "Leave some for training."
        )
    measured = {str(path): features(path) for path in photos}
    boxes = {str(path): read_box(path) or frames.get(path) for path in photos}
    return [Path(key) for key in held_out.choose(measured, boxes, settings.seed, wanted)]


def notes(held_out: Sequence[Path]) -> list[str]:
    """Return what is told before training: which photos it will not see, and why."""
    if not held_out:
        return []
    names = ", ".join(path.name for path in held_out)
    return [
        f"Held out of training, so that likeness is measured on photos that the model has not seen: "
        f"{names}. With --hold-out 0 all photos are trained on."
    ]
