"""The photo set being prepared, kept on disk so that a reload or a restart loses nothing.

`draft/photos/` in the data folder holds clean copies (upright, without the location) with captions
and the pet's frame beside them, as a run expects them. `draft/draft.json` holds the answers and the
facts about each photo. All tabs share one draft.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import BadFile, UserError
from blockskip.core.formats import Later, check_format
from blockskip.core.names import shown_name
from blockskip.core.paths import data_dir
from blockskip.core.validation import validated
from blockskip.data import photo_features, photos, subject_boxes
from blockskip.data.caption_files import is_caption_file
from blockskip.data.subject_boxes import FINDER, USER, Box
from blockskip.models import pet_finder
from blockskip.studio import strings
from blockskip.studio.added_captions import AddedCaptions

log = logging.getLogger(__name__)
_lock = threading.RLock()
_reading_progress: tuple[int, int] | None = None
MAX_PHOTOS = 200
FORMAT = 1  # of draft.json (core/formats.py)


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo of the draft.

    file: name in `photos/`. name: the user's file name. demo: a drawn pet. caption: without “a
    photo of momo cat”, which training adds. box: the pet's frame. proposal: a frame around what stands
    out, used only when the user asks. Both are (left, top, right, bottom) as fractions of the photo.
    framed_by: who drew or removed the frame (subject_boxes.FINDER or USER), "" for nobody; a frame of
    nobody is an old one of the user. held_out: whether the user holds it out of training, None for
    undecided.
    """

    file: str
    name: str
    sha: str
    demo: bool = False
    caption: str = ""
    box: tuple[float, ...] | None = None
    proposal: tuple[float, ...] | None = None
    framed_by: str = ""
    held_out: bool | None = None

    @property
    def open_to_finder(self) -> bool:
        """Whether the finder of pets may draw, change or remove the frame."""
        return self.framed_by == FINDER or (not self.framed_by and self.box is None)


@dataclass(frozen=True)
class Draft:
    """The photos and answers. rejected: (name, reason) of each photo left out of the last addition.

    answers: component name → value. aside: photos that are kept, but not trained on
    (studio/set_aside.py).
    """

    photos: tuple[PreparedPhoto, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    answers: dict = field(default_factory=dict)
    aside: tuple[PreparedPhoto, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [photos_dir() / photo.file for photo in self.photos]

    @property
    def own_photos(self) -> bool:
        """Whether it has photos other than the demo pet's."""
        return any(not photo.demo for photo in self.photos)


def photos_dir() -> Path:
    return data_dir() / "draft" / "photos"


def found_dir() -> Path:
    """Return the folder of what was seen in the photos (models/pet_finder.py)."""
    return photos_dir().parent / "found"


def load() -> Draft:
    """Return the draft on disk, an empty one if there is none or it cannot be read. The photos stay
    where they are. An unreadable file is kept as draft.json.broken, one of a later version as it is.
    """
    with _lock:
        try:
            saved = validated(Draft, _read(), str(_draft_path()), error=BadFile)
        except Later as later:
            return Draft(rejected=(("", str(later)),))
        except BadFile as error:
            log.warning("the draft is empty: %s", error)
            with suppress(OSError):
                files.replace(_draft_path(), _draft_path().with_name("draft.json.broken"))
            return Draft()
        except OSError:
            return Draft()
        there = _files_there()
        return replace(
            saved,
            photos=tuple(photo for photo in saved.photos if photo.file in there),
            aside=tuple(photo for photo in saved.aside if photo.file in there),
        )


def _read() -> dict:
    data = files.read_json(_draft_path())
    check_format(data, FORMAT, str(_draft_path()), "The photos of this page were prepared")
    return data


def _files_there() -> set[str]:
    try:
        with os.scandir(photos_dir()) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def features(names: Iterable[str]) -> dict[str, photo_features.Features]:
    """Return the measured features of photos, by file. Raises UserError if a file is gone."""
    folder = photos_dir()
    cache_dir = folder.parent / "features"
    return {name: photo_features.features(folder / name, cache_dir) for name in names}


def save_answers(**answers: str | float | None) -> None:
    """Save answers from the page, beside those saved earlier."""
    with _lock:
        old = load()
        if old.answers != old.answers | answers:
            _save(replace(old, answers=old.answers | answers))


def change(edit: Callable[[Draft], Draft]) -> Draft:
    """Replace the draft by what `edit` makes of it."""
    with _lock:
        return _save(edit(load()))


def add(paths: list[Path], demo: bool = False, first: bool = True) -> Draft:
    """Add photos, each as soon as it is read, and return the draft.

    first: False for a later part of one addition. Unusable photos and captions go to `rejected` with the reason. Caption files
    (data/caption_files.py) are for the photos that they name. Of photos of one name, each has its
    own (studio/added_captions.py). Raises UserError if the disk is full.
    """
    global _reading_progress
    if first:
        change(lambda old: replace(old, rejected=()))
    texts = [path for path in paths if is_caption_file(path)]
    added = [path for path in paths if path not in texts]
    captions = AddedCaptions(texts, added, {photo.file: photo.name for photo in load().photos})
    update_photos(lambda k: replace(k, caption=captions.earlier.get(k.file, k.caption)))
    for problem in captions.problems:
        _reject(*problem)
    try:
        photo_paths = photos.find_photos(added)
    except UserError as error:
        return load() if texts else _reject("", error.title)
    done = 0
    _reading_progress = (done, len(photo_paths))
    try:
        # decoding releases the GIL; a big photo takes half a second. One core stays for the page
        with ThreadPoolExecutor(max_workers=max(1, min(4, (os.cpu_count() or 1) - 1))) as pool:
            for result in pool.map(lambda path: _prepare(path, captions.added, demo), photo_paths):
                _add_photo(result)
                done += 1
                _reading_progress = (done, len(photo_paths))
    finally:
        _reading_progress = None
    return load()


def reading_progress() -> tuple[int, int] | None:
    """Return (photos read, photos being added), None if none are being added."""
    return _reading_progress


def _add_photo(result: PreparedPhoto | tuple[str, str]) -> None:
    """Add a prepared photo to the draft, or reject the (name, reason) of an unusable one."""
    if isinstance(result, tuple):
        _reject(*result)
        return
    with _lock:
        old = load()
        if any(photo.sha == result.sha for photo in old.photos):
            _reject(result.name, strings.PHOTO_TWICE)
        elif any(photo.sha == result.sha for photo in old.aside):
            _reject(result.name, strings.PHOTO_ASIDE)
        elif len(old.photos) >= MAX_PHOTOS:
            (photos_dir() / result.file).unlink(missing_ok=True)
            _reject(result.name, strings.PHOTOS_MOST.format(most=MAX_PHOTOS))
        else:
            _write_box(result)
            _save(replace(old, photos=(*old.photos, result)))


def _reject(name: str, reason: str) -> Draft:
    return change(lambda old: replace(old, rejected=(*old.rejected, (name, reason))))


def edit_photo(
    file: str, caption: str | None, box: tuple[float, ...] | None, box_kept: bool = False
) -> Draft:
    """Set the caption and the frame of one photo; caption None, box_kept = unchanged.

    A file that is not in the draft changes nothing.
    """

    def edited(photo: PreparedPhoto) -> PreparedPhoto:
        if photo.file != file:
            return photo
        edited = replace(photo, caption=photo.caption if caption is None else caption)
        if box_kept or box == photo.box:
            return edited
        return replace(edited, box=box, framed_by=USER)

    return update_photos(edited)


def add_captions(captions: dict[str, str]) -> Draft:
    """Add captions (file → text) to the photos that have none."""
    return update_photos(lambda k: replace(k, caption=k.caption or captions.get(k.file, "")))


def write_photo_files() -> list[Path]:
    """Write the captions beside the photos and return the photos' paths."""
    draft = load()
    for photo in draft.photos:
        path = (photos_dir() / photo.file).with_suffix(".txt")
        if photo.caption:
            files.write_text(path, photo.caption + "\n")
        else:
            path.unlink(missing_ok=True)
    return draft.paths


def hold_out(chosen: Mapping[str, bool]) -> Draft:
    """Set whether photos are held out of training (file → answer)."""
    return update_photos(lambda k: replace(k, held_out=chosen.get(k.file, k.held_out)))


def update_photos(edit: Callable[[PreparedPhoto], PreparedPhoto]) -> Draft:
    """Replace each photo by what `edit` makes of it."""
    with _lock:
        old = load()
        changed = tuple(map(edit, old.photos))
        if changed == old.photos:
            return old
        for before, after in zip(old.photos, changed, strict=True):
            if after != before:
                _write_box(after)
        return _save(replace(old, photos=changed))


def remove(*removed: str) -> Draft:
    """Remove photos. A file that is not in the draft changes nothing."""
    with _lock:
        old = load()
        for photo in old.photos:
            if photo.file in removed:
                _write_box(replace(photo, box=None, framed_by=""))
                path = photos_dir() / photo.file
                for gone in (path, path.with_suffix(".txt")):
                    gone.unlink(missing_ok=True)
        left = tuple(photo for photo in old.photos if photo.file not in removed)
        return _save(replace(old, photos=left, rejected=()))


def clear() -> Draft:
    """Remove all photos and the pet's name; keep the other answers."""
    with _lock:
        old = _save(load())
        pet_finder.stop(found_dir())
        for folder in (photos_dir(), photos_dir().parent / "features", found_dir()):
            shutil.rmtree(folder, ignore_errors=True)
        return _save(Draft(answers={k: v for k, v in old.answers.items() if k != "name"}))


def _prepare(path: Path, captions: dict[Path, str], demo: bool) -> PreparedPhoto | tuple[str, str]:
    """Make a clean copy of a photo, losslessly up to 512 px. Return its facts, or (name, reason) if
    it is unusable. Raises UserError if the disk is full."""
    try:
        photo = photos.read_photo(path, "")
    except photos.UnusablePhoto as error:
        return shown_name(path.name), error.reason
    suffix = ".png" if max(photo.width, photo.height) <= 512 else ".jpg"
    copy = photos_dir() / f"{photo.sha[:16]}{suffix}"
    photos_dir().mkdir(parents=True, exist_ok=True)
    photos.reencode(path, copy)
    small, _ = photos.open_small(copy, 320)
    features([copy.name])
    caption = captions.get(path, photo.caption)
    box, proposal = _box_edges(photo.box), _box_edges(subject_boxes.propose_box(small))
    author = subject_boxes.box_author(path)
    return PreparedPhoto(copy.name, path.name, photo.sha, demo, caption, box, proposal, author)


def _box_edges(box: Box | None) -> tuple[float, ...] | None:
    return None if box is None else (box.left, box.top, box.right, box.bottom)


def _write_box(photo: PreparedPhoto) -> None:
    """Write the frame beside the photo, where a run reads it."""
    box = Box(*photo.box) if photo.box else None
    subject_boxes.write_box(photos_dir() / photo.file, box, photo.framed_by)


def _save(draft: Draft) -> Draft:
    """Write the draft. Raises Later instead of replacing that of a later version."""
    with suppress(OSError, files.Unreadable):
        _read()
    # not asdict, which copies every value: this is done once a photo, for all photos
    lists = {name: [vars(photo) for photo in getattr(draft, name)] for name in ("photos", "aside")}
    files.write_json(_draft_path(), {"format": FORMAT, **vars(draft), **lists})
    return draft


def _draft_path() -> Path:
    return data_dir() / "draft" / "draft.json"
