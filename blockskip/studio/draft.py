"""The photo set being put together, kept on disk so that a reload or a restart loses nothing.

`draft/` in the data folder: `photos/` holds clean copies (upright, without the place they were
taken) with captions and the pet's frame beside them, as a run wants them; `draft.json` the answers
and what is known of each photo. All tabs share it.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from blockskip.core import files
from blockskip.core.errors import UserError
from blockskip.core.paths import data_dir
from blockskip.data import photo_features, photos, subject_boxes
from blockskip.data.subject_boxes import Box
from blockskip.studio import strings

_lock = threading.RLock()
_reading_progress: tuple[int, int] | None = None
MAX_PHOTOS = 200  # photos


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo of the draft. file: in `photos/`. name: what the user called it. demo: a drawn one.

    caption: what is said of it; “a photo of momo cat” is added when it is trained. box: the pet's frame; proposal: one found by itself, never used
    unasked; both (left, top, right, bottom) in shares of the photo.
    """

    file: str
    name: str
    sha: str
    demo: bool = False
    caption: str = ""
    box: tuple[float, ...] | None = None
    proposal: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Draft:
    """What is kept. answers: component name → value. rejected: (name, reason) of the last
    addition."""

    photos: tuple[PreparedPhoto, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    answers: dict = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        return [photos_dir() / photo.file for photo in self.photos]

    @property
    def own_photos(self) -> bool:
        """Whether photos other than the demo pet's are among them."""
        return any(not photo.demo for photo in self.photos)


def photos_dir() -> Path:
    return data_dir() / "draft" / "photos"


def load() -> Draft:
    """The draft on disk; an empty one where there is none or it cannot be read."""
    with _lock:
        try:
            data = files.read_json(_draft_path())
            kept = tuple(_photo_from_json(photo) for photo in data["photos"])
            return Draft(
                tuple(k for k in kept if (photos_dir() / k.file).is_file()),
                tuple((name, reason) for name, reason in data["rejected"]),
                data["answers"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return Draft()


def features(file: str) -> photo_features.Features:
    """What was measured on a photo. Raises UserError when it is gone."""
    return photo_features.features(photos_dir() / file, photos_dir().parent / "features")


def save_answers(**answers: str | float | None) -> None:
    """Keep what was chosen on the page."""
    with _lock:
        old = load()
        if old.answers != old.answers | answers:
            _save(Draft(old.photos, old.rejected, old.answers | answers))


def add(paths: list[Path], demo: bool = False) -> Draft:
    """Add photos, each as soon as it is read; those that cannot be used are named with the reason.
    A .txt is the caption of the photo of its name. Raises UserError (disk full)."""
    global _reading_progress
    with _lock:
        _save(replace(load(), rejected=()))
    captions = {p.stem: photos.read_caption(p) for p in paths if p.suffix.lower() == ".txt"}
    _update_photos(lambda k: replace(k, caption=captions.get(Path(k.name).stem, k.caption)))
    try:
        found = photos.find_photos([p for p in paths if p.suffix.lower() != ".txt"])
    except UserError as error:
        return load() if captions else _reject("", error.title)
    done = 0
    _reading_progress = (done, len(found))
    try:
        # decoding lets other threads run; big photos take half a second each
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            for made in pool.map(lambda path: _prepare(path, captions, demo), found):
                _add_photo(made)
                done += 1
                _reading_progress = (done, len(found))
    finally:
        _reading_progress = None
    return load()


def reading_progress() -> tuple[int, int] | None:
    """(photos read, photos dropped) while some are being added."""
    return _reading_progress


def _add_photo(made: PreparedPhoto | tuple[str, str]) -> None:
    """A prepared photo into the draft, or the (name, reason) of one that cannot be used."""
    if isinstance(made, tuple):
        _reject(*made)
        return
    with _lock:
        old = load()
        if any(kept.sha == made.sha for kept in old.photos):
            _reject(made.name, strings.PHOTO_TWICE)
        elif len(old.photos) >= MAX_PHOTOS:
            (photos_dir() / made.file).unlink(missing_ok=True)
            _reject(made.name, strings.PHOTOS_MOST.format(most=MAX_PHOTOS))
        else:
            _write_box(made)
            _save(replace(old, photos=(*old.photos, made)))


def _reject(name: str, reason: str) -> Draft:
    with _lock:
        old = load()
        return _save(replace(old, rejected=(*old.rejected, (name, reason))))


def edit_photo(file: str, caption: str | None, box: tuple[float, ...] | None) -> Draft:
    """What the user says of one photo; caption None: as it was. A name that is not in the draft changes
    nothing."""

    def said(photo: PreparedPhoto) -> PreparedPhoto:
        if photo.file != file:
            return photo
        return replace(photo, caption=photo.caption if caption is None else caption, box=box)

    return _update_photos(said)


def add_captions(captions: dict[str, str]) -> Draft:
    """Captions of several photos, file → text; those that have one keep it."""
    return _update_photos(lambda k: replace(k, caption=k.caption or captions.get(k.file, "")))


def write_photo_files(caption: Callable[[str], str]) -> list[Path]:
    """The photos' files, with captions beside them as a run wants them. caption: of what the user
    or the captioner said of a photo."""
    now = load()
    for photo in now.photos:
        path = (photos_dir() / photo.file).with_suffix(".txt")
        if photo.caption:
            files.write_text(path, caption(photo.caption) + "\n")
        else:
            path.unlink(missing_ok=True)
    return now.paths


def mark_all() -> Draft:
    """Frame the pet where it seems to be, on every photo without a frame."""
    return _update_photos(lambda k: replace(k, box=k.box or k.proposal))


def unmark_all() -> Draft:
    """No frames."""
    return _update_photos(lambda k: replace(k, box=None))


def _update_photos(how: Callable[[PreparedPhoto], PreparedPhoto]) -> Draft:
    with _lock:
        old = load()
        changed = tuple(map(how, old.photos))
        for before, now in zip(old.photos, changed, strict=True):
            if now != before:
                _write_box(now)
        return _save(replace(old, photos=changed))


def remove(file: str) -> Draft:
    """Take one photo out; a name that is not in the draft changes nothing."""
    with _lock:
        old = load()
        for photo in old.photos:
            if photo.file == file:
                _write_box(replace(photo, box=None))
                for path in (photos_dir() / file, (photos_dir() / file).with_suffix(".txt")):
                    path.unlink(missing_ok=True)
        return _save(Draft(tuple(k for k in old.photos if k.file != file), (), old.answers))


def clear() -> Draft:
    """Take all photos out and forget the pet's name; the other answers stay."""
    with _lock:
        old = load()
        for folder in (photos_dir(), photos_dir().parent / "features"):
            shutil.rmtree(folder, ignore_errors=True)
        return _save(Draft(answers={k: v for k, v in old.answers.items() if k != "name"}))


def _prepare(path: Path, captions: dict[str, str], demo: bool) -> PreparedPhoto | tuple[str, str]:
    """A clean copy of a photo and all that is known of it, or (name, reason). Small pictures are
    kept without loss. Raises UserError (disk full)."""
    try:
        photo = photos.read_photo(path, "")
    except photos.UnusablePhoto as error:
        return path.name, error.reason
    suffix = ".png" if max(photo.width, photo.height) <= 512 else ".jpg"
    copy = photos_dir() / f"{photo.sha[:16]}{suffix}"
    photos_dir().mkdir(parents=True, exist_ok=True)
    photos.reencode(path, copy)
    small, _ = photos.open_small(copy, 320)
    features(copy.name)
    caption = captions.get(path.stem, photo.caption)
    box, proposal = _box_edges(photo.box), _box_edges(subject_boxes.propose_box(small))
    return PreparedPhoto(copy.name, path.name, photo.sha, demo, caption, box, proposal)


def _box_edges(box: Box | None) -> tuple[float, ...] | None:
    return None if box is None else (box.left, box.top, box.right, box.bottom)


def _write_box(kept: PreparedPhoto) -> None:
    """The frame where a run looks for it."""
    subject_boxes.write_box(photos_dir() / kept.file, Box(*kept.box) if kept.box else None)


def _photo_from_json(data: dict) -> PreparedPhoto:
    pairs = {key: tuple(data[key]) for key in ("box", "proposal") if data.get(key)}
    return PreparedPhoto(**data | pairs)


def _save(draft: Draft) -> Draft:
    files.write_json(
        _draft_path(),
        {
            "answers": draft.answers,
            "rejected": draft.rejected,
            "photos": [asdict(photo) for photo in draft.photos],
        },
    )
    return draft


def _draft_path() -> Path:
    return data_dir() / "draft" / "draft.json"
