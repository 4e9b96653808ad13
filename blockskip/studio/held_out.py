"""Which of the draft's photos are held out of training (data/held_out.py): by the rule, until the
user decides otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from blockskip.core import presets
from blockskip.data import held_out
from blockskip.data.subject_boxes import Box
from blockskip.runs.likeness import TOOL
from blockskip.studio import draft, tool_view
from blockskip.studio.draft import Draft


@dataclass(frozen=True)
class HeldOut:
    """The draft's photos that are held out. possible: whether any may be. by_rule: whether the
    user has not decided. offered: whether the rule waits for the judge of likeness."""

    files: tuple[str, ...] = ()
    possible: bool = False
    by_rule: bool = True
    offered: bool = False

    def __contains__(self, file: str) -> bool:
        return file in self.files


NONE = HeldOut()


def find(now: Draft, answers: Mapping) -> HeldOut:
    """Return the photos to hold out: none for the demo model; those that the user chose; else those
    of the rule, once the judge of likeness is on this computer.

    answers: of the page, for the model and the seed.
    """
    if presets.model_row(answers["model"]).demo or not now.photos:
        return NONE
    if any(photo.held_out is not None for photo in now.photos):
        chosen = tuple(photo.file for photo in now.photos if photo.held_out)
        return HeldOut(chosen, possible=True, by_rule=False)
    photos = tuple((photo.file, photo.box) for photo in now.photos)
    chosen = _by_rule(photos, int(answers["seed"] or 0))
    if not tool_view.is_ready(TOOL):
        return HeldOut(possible=True, offered=bool(chosen))
    return HeldOut(chosen, possible=True)


def num_trained(now: Draft, answers: Mapping) -> int:
    """Return how many photos of the draft are trained on."""
    return len(now.photos) - len(find(now, answers).files)


def change(answers: Mapping, file: str, held: bool) -> None:
    """Hold a photo out, or train on it; file "": on all. From now on the user's choice holds."""
    now = draft.load()
    chosen = set(find(now, answers).files) if file else set()
    chosen = chosen | {file} if held and file else chosen - {file}
    draft.hold_out({photo.file: photo.file in chosen for photo in now.photos})


@lru_cache(maxsize=4)
def _by_rule(
    photos: tuple[tuple[str, tuple[float, ...] | None], ...], seed: int
) -> tuple[str, ...]:
    """photos: (file, frame) of each."""
    boxes = {file: Box(*box) if box else None for file, box in photos}
    features = draft.features(file for file, _ in photos)
    return tuple(held_out.choose(features, boxes, seed))
