"""Photos that are set aside: kept in the draft's folder, but not trained on, until the user brings
them back or the training begins. All but the best of many are set aside on a press."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from blockskip.data import photo_checks, photo_choice
from blockskip.data.photo_checks import MOST
from blockskip.data.photo_features import LOOK_PX
from blockskip.data.sightings import Sighting
from blockskip.data.subject_boxes import Box
from blockskip.studio import draft
from blockskip.studio.draft import Draft


def set_aside(files: Collection[str]) -> Draft:
    """Set photos aside. Files that are not in the draft change nothing."""

    def without(old: Draft) -> Draft:
        gone = tuple(photo for photo in old.photos if photo.file in files)
        left = tuple(photo for photo in old.photos if photo.file not in files)
        return replace(old, photos=left, aside=(*old.aside, *gone))

    return draft.change(without)


def bring_back(file: str = "") -> Draft:
    """Train again on a photo that was set aside; "" = on all, as many as the draft can hold."""

    def with_them(old: Draft) -> Draft:
        wanted = [photo for photo in old.aside if file in ("", photo.file)]
        back = tuple(wanted[: max(0, draft.MAX_PHOTOS - len(old.photos))])
        left = tuple(photo for photo in old.aside if photo not in back)
        return replace(old, photos=(*old.photos, *back), aside=left)

    return draft.change(with_them)


def keep_best(sightings: Mapping[str, Sighting], number: int = MOST) -> Draft:
    """Set aside all but the best photos. sightings: by file, of those that were looked at."""
    now = draft.load()
    features = draft.features(photo.file for photo in now.photos)
    boxes = {photo.file: Box(*photo.box) if photo.box else None for photo in now.photos}
    findings = photo_checks.findings(features, boxes, LOOK_PX, None, sightings)
    best = photo_choice.best(features, boxes, findings, number)
    return set_aside([photo.file for photo in now.photos if photo.file not in best])


def write_caption(files: Collection[str], caption: str, replaced: bool) -> Draft:
    """Give several photos one caption. replaced: also those that have one."""

    def captioned(photo: draft.PreparedPhoto) -> draft.PreparedPhoto:
        if photo.file not in files or (photo.caption and not replaced):
            return photo
        return replace(photo, caption=caption)

    return draft.update_photos(captioned)
