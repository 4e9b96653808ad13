"""The photo set being put together, kept on disk so that a reload or a restart loses nothing.

`draft/` in the data folder: `photos/` holds clean copies (upright, without the place they were
taken), `draft.json` the answers and where each photo came from. All tabs share it.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

from blockskip import files, photos, runs
from blockskip.events import UserError
from blockskip.studio import texts

_lock = threading.RLock()


@dataclass(frozen=True)
class Kept:
    """A photo of the draft. file: in `photos/`. name: what the user called it. demo: a drawn
    one."""

    file: str
    name: str
    sha: str
    demo: bool = False


@dataclass(frozen=True)
class Draft:
    """What is kept. answers: component name → value. rejected: (name, reason) of the last
    addition."""

    photos: tuple[Kept, ...] = ()
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
    return runs.data_dir() / "draft" / "photos"


def load() -> Draft:
    """The draft on disk; an empty one where there is none or it cannot be read."""
    with _lock:
        try:
            data = files.read_json(_file())
            kept = tuple(Kept(**photo) for photo in data["photos"])
            return Draft(
                tuple(k for k in kept if (photos_dir() / k.file).is_file()),
                tuple((name, reason) for name, reason in data["rejected"]),
                data["answers"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return Draft()


def answer(**answers: object) -> None:
    """Keep what was chosen on the page."""
    with _lock:
        old = load()
        if old.answers != old.answers | answers:
            _save(Draft(old.photos, old.rejected, old.answers | answers))


def add(paths: list[Path], demo: bool = False) -> Draft:
    """Add photos; those that cannot be used are named with the reason. Raises UserError (disk
    full)."""
    with _lock:
        old = load()
        kept, rejected = list(old.photos), []
        try:
            good, bad = photos.read_photos(photos.find_photos(paths), "")
        except UserError as error:  # not one of them is a photo
            return _save(Draft(old.photos, (("", error.title),), old.answers))
        for photo in good:
            if any(k.sha == photo.sha for k in kept):
                rejected.append((photo.path.name, texts.PHOTO_TWICE))
                continue
            kept.append(_keep(photo, demo))
        rejected += [(r.name, r.reason) for r in bad]
        return _save(Draft(tuple(kept), tuple(rejected), old.answers))


def remove(file: str) -> Draft:
    """Take one photo out; a name that is not in the draft changes nothing."""
    with _lock:
        old = load()
        for photo in old.photos:
            if photo.file == file:
                (photos_dir() / file).unlink(missing_ok=True)
                (photos_dir() / file).with_suffix(".txt").unlink(missing_ok=True)
        return _save(Draft(tuple(k for k in old.photos if k.file != file), (), old.answers))


def clear() -> Draft:
    """Take all photos out and forget the pet's name; the other answers stay."""
    with _lock:
        old = load()
        shutil.rmtree(photos_dir(), ignore_errors=True)
        return _save(Draft(answers={k: v for k, v in old.answers.items() if k != "name"}))


def _keep(photo: photos.Photo, demo: bool) -> Kept:
    """Copy a photo into the draft. Small pictures are kept without loss."""
    suffix = ".png" if max(photo.width, photo.height) <= 512 else ".jpg"
    file = f"{photo.sha[:16]}{suffix}"
    photos_dir().mkdir(parents=True, exist_ok=True)
    photos.reencode(photo.path, photos_dir() / file)
    if photo.caption:
        files.write_text((photos_dir() / file).with_suffix(".txt"), photo.caption + "\n")
    return Kept(file, photo.path.name, photo.sha, demo)


def _save(draft: Draft) -> Draft:
    files.write_json(
        _file(),
        {
            "answers": draft.answers,
            "rejected": draft.rejected,
            "photos": [asdict(photo) for photo in draft.photos],
        },
    )
    return draft


def _file() -> Path:
    return runs.data_dir() / "draft" / "draft.json"
