"""Undo for photos that a click took out of the draft.

What is removed stays in `draft/removed/` in the data folder until the training begins, with its
frame, caption and place, so that it can be brought back also after a reload.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from blockskip.core import files
from blockskip.core.errors import BadInput, UserError
from blockskip.data import subject_boxes
from blockskip.data.subject_boxes import Box
from blockskip.studio import downloads, draft, strings
from blockskip.studio.draft import Draft, PreparedPhoto
from blockskip.studio.formatting import action_button, count_photos, e

_lock = threading.RLock()
log = logging.getLogger(__name__)
MOST = 50  # removals that can be undone


@dataclass(frozen=True)
class Removal:
    """One click. what: some photos | all of them | all, to make room for others.
    places: of the photos among those that there were. answers: as they were. aside: photos that were
    set aside, and went too."""

    what: Literal["some", "all", "replaced"]
    photos: tuple[PreparedPhoto, ...]
    places: tuple[int, ...]
    answers: dict = field(default_factory=dict)
    aside: tuple[PreparedPhoto, ...] = ()

    @property
    def all_photos(self) -> tuple[PreparedPhoto, ...]:
        return (*self.photos, *self.aside)


@dataclass(frozen=True)
class _Removals:
    removals: tuple[Removal, ...] = ()


def remove(*removed: str) -> None:
    """Remove photos from the draft, so that `undo` brings them back."""
    with _lock:
        old = draft.load()
        _keep("some", old, [photo for photo in old.photos if photo.file in removed])
        draft.remove(*removed)


def clear(replaced: bool = False) -> None:
    """Remove all photos and the pet's name likewise. replaced: other ones take their place."""
    with _lock:
        old = draft.load()
        _keep("replaced" if replaced else "all", old, old.photos, old.aside)
        draft.clear()


def undo() -> None:
    """Bring back what was removed last. What took its place can be brought back then. Raises
    UserError if the draft has no room."""
    with _lock:
        removals = _read()
        if removals:
            _bring_back(removals[-1])
            _write([removal for removal in _read() if removal != removals[-1]])


def _bring_back(last: Removal) -> None:
    if last.what == "replaced":
        clear(replaced=True)
    elif len(draft.load().photos) + len(last.photos) > draft.MAX_PHOTOS:
        title = strings.UNDO_NO_ROOM.format(most=draft.MAX_PHOTOS)
        raise BadInput(title, strings.UNDO_NO_ROOM_REMEDY)
    now = draft.load()
    there = {photo.sha for photo in (*now.photos, *now.aside)}
    back = [(place, photo) for place, photo in _pairs(last) if photo.sha not in there]
    aside = [photo for photo in last.aside if photo.sha not in there]
    draft.photos_dir().mkdir(parents=True, exist_ok=True)
    for photo in [*(photo for _, photo in back), *aside]:
        with suppress(FileNotFoundError):
            os.replace(_folder() / photo.file, draft.photos_dir() / photo.file)
        box = Box(*photo.box) if photo.box else None
        subject_boxes.write_box(draft.photos_dir() / photo.file, box, photo.framed_by)
    draft.change(lambda old: replace(_with(old, back, last), aside=(*old.aside, *aside)))


def forget() -> None:
    """Forget what was removed: its photos are deleted."""
    shutil.rmtree(_folder(), ignore_errors=True)


def bar() -> str:
    """Return what the last click removed, with a button that brings it back, "" if none did."""
    removals = _read()
    if not removals:
        return ""
    last = removals[-1]
    if last.what == "some" and len(last.photos) == 1:
        words = strings.UNDO_ONE.format(name=last.photos[0].name)
    else:
        words = strings.UNDO_MANY[last.what].format(photos=count_photos(len(last.all_photos)))
    buttons = action_button("undo", strings.UNDO) + (
        f'<button type="button" class="press link" data-do="undo_forget" '
        f'aria-label="{strings.UNDO_FORGET}" title="{strings.UNDO_FORGET}">×</button>'
    )
    return f'<div class="undo" role="status"><span>{e(words)}</span>{buttons}</div>'


def _with(old: Draft, back: Sequence[tuple[int, PreparedPhoto]], last: Removal) -> Draft:
    """Return the draft with the photos, each at its place, and the answers that were removed."""
    photos = list(old.photos)
    for place, photo in back:
        photos.insert(place, photo)
    answers = last.answers if last.what == "replaced" else old.answers
    if name := last.answers.get("name"):
        answers = answers | {"name": answers.get("name") or name}
    return replace(old, photos=tuple(photos), answers=answers)


def _pairs(removal: Removal) -> list[tuple[int, PreparedPhoto]]:
    return sorted(zip(removal.places, removal.photos, strict=True), key=lambda pair: pair[0])


def _keep(
    what: Literal["some", "all", "replaced"],
    old: Draft,
    photos: Sequence[PreparedPhoto],
    aside: tuple[PreparedPhoto, ...] = (),
) -> None:
    """Keep the photos' files. What cannot be kept cannot be undone."""
    if not (photos or aside):
        return
    places = tuple(old.photos.index(photo) for photo in photos)
    answers = {} if what == "some" else old.answers
    removals = [*_read(), Removal(what, tuple(photos), places, answers, aside)]
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        for photo in removals[-1].all_photos:
            (_folder() / photo.file).unlink(missing_ok=True)
            downloads.link(draft.photos_dir() / photo.file, _folder() / photo.file)
        _write(removals[-MOST:])
    except OSError as error:
        log.warning("what is removed cannot be kept: %s", error)
        forget()


def _read() -> tuple[Removal, ...]:
    try:
        return files.read_json(_folder() / "removed.json", _Removals).removals
    except FileNotFoundError:
        return ()
    except (OSError, UserError) as error:
        log.warning("what was removed cannot be brought back: %s", error)
        forget()
        return ()


def _write(removals: Sequence[Removal]) -> None:
    """Write what can be undone, and delete the files of what cannot any more."""
    if not removals:
        forget()
        return
    files.write_json(_folder() / "removed.json", asdict(_Removals(tuple(removals))), lasting=False)
    known = {photo.file for removal in removals for photo in removal.all_photos}
    for path in _folder().iterdir():
        if path.name not in known and path.name != "removed.json":
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return draft.photos_dir().parent / "removed"
