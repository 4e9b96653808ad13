"""Frames around the pet on the draft's photos: found, proposed, or removed, on many at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from blockskip.data.subject_boxes import FINDER, USER
from blockskip.studio import draft
from blockskip.studio.draft import Draft, PreparedPhoto


def set_found(frames: Mapping[str, tuple[float, ...] | None]) -> Draft:
    """Set what the finder of pets found (file → frame), where the user has not decided."""

    def found(photo: PreparedPhoto) -> PreparedPhoto:
        if photo.file not in frames or not photo.open_to_finder:
            return photo
        box = frames[photo.file]
        return replace(photo, box=box, framed_by=FINDER if box else "")

    return draft.update_photos(found)


def mark_all(found: Mapping[str, tuple[float, ...]]) -> Draft:
    """Use the frame that was found (file → frame), else the proposed one, on every photo without a
    frame."""

    def marked(photo: PreparedPhoto) -> PreparedPhoto:
        if photo.box:
            return photo
        if photo.file in found:
            return replace(photo, box=found[photo.file], framed_by=FINDER)
        return replace(photo, box=photo.proposal, framed_by=USER if photo.proposal else "")

    return draft.update_photos(marked)


def unmark_all() -> Draft:
    """Remove all frames."""
    return draft.update_photos(lambda k: replace(k, box=None, framed_by=USER))
