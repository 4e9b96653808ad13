"""Captions that are dropped on the page together with photos, or after them.

Uploads arrive each in a folder of its own, so that names need not be unique: two photos called
IMG_0001.jpg can come with two files IMG_0001.txt.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from blockskip.data.caption_files import SUFFIXES, Captions, Problem, caption_key
from blockskip.studio import strings

T = TypeVar("T", bound=Hashable)


class AddedCaptions:
    """The captions in some files. added: for the photos that came with them, by path. earlier: for
    photos of the draft, by file. problems: what cannot be used, or may belong to several."""

    def __init__(self, files: Sequence[Path], photos: Sequence[Path], draft: Mapping[str, str]):
        """Read the files. photos: those that came with them. draft: file → name of its photos."""
        own = [file for file in files if file.suffix.lower() in SUFFIXES]
        metadata = Captions((file for file in files if file not in own), same_folder=False)
        new = {key for photo in photos for key in _keys(photo.name)}
        later = [file for file in own if caption_key(file.stem) not in new]
        for_added = match_captions(own, {photo: photo.name for photo in photos})
        for_draft = match_captions(later, draft)
        self.problems = metadata.problems
        self.added = self._read(for_added, {photo: metadata.of(photo) for photo in photos})
        self.earlier = self._read(for_draft, {f: metadata.of(Path(n)) for f, n in draft.items()})
        known = new | {key for name in draft.values() for key in _keys(name)}
        used = {*for_added.values(), *for_draft.values()}
        unclear = [file for file in own if file not in used and caption_key(file.stem) in known]
        self.problems += [Problem(file.name, strings.CAPTION_UNCLEAR) for file in unclear]

    def _read(self, matched: dict[T, Path], metadata: dict[T, str]) -> dict[T, str]:
        """Return the captions by photo: of its own file, else of metadata. Blank ones are none."""
        texts = dict(metadata)
        for file in dict.fromkeys(matched.values()):
            captions = Captions([file], same_folder=False)
            self.problems += captions.problems
            text = captions.of(Path(file.stem))
            texts |= {photo: text for photo, own in matched.items() if own == file and text}
        return {photo: text for photo, text in texts.items() if text}


def match_captions(files: Sequence[Path], photos: Mapping[T, str]) -> dict[T, Path]:
    """Return which caption file belongs to each photo. photos: photo → its name.

    Of one name, as many files as photos belong to them in this order, unless a file lies beside its
    photo. A single file belongs to all its photos if their names differ, such as x.jpg and x.png.
    Others stay out. A .txt file comes before a .caption file.
    """
    matched: dict[T, Path] = {}
    groups = dict.fromkeys((file.suffix.lower(), caption_key(file.stem)) for file in files)
    for suffix, key in sorted(groups, key=lambda group: SUFFIXES.index(group[0])):
        own = [f for f in files if (f.suffix.lower(), caption_key(f.stem)) == (suffix, key)]
        open_photos = [p for p, name in photos.items() if key in _keys(name) and p not in matched]
        for photo in list(open_photos):
            beside = [f for f in own if isinstance(photo, Path) and f.parent == photo.parent]
            if beside:
                matched[photo] = beside[0]
                open_photos.remove(photo)
        own = [file for file in own if file not in matched.values()]
        if len(own) == 1 and len({photos[photo] for photo in open_photos}) == len(open_photos):
            own *= len(open_photos)
        if len(own) == len(open_photos):
            matched |= dict(zip(open_photos, own, strict=True))
    return matched


def _keys(name: str) -> set[str]:
    """Return the names that a photo's caption file may have without its ending."""
    return {caption_key(name), caption_key(Path(name).stem)}
