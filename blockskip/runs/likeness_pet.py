"""Measure the likeness of a real model's pictures to the photos of the pet.

Photos and pictures are cut to the pet's frame. Photos that were held out of training are compared
with if there are any; otherwise a model that copies its photos is rewarded for it, which the
nearest photo shows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import AutoModelForObjectDetection

from blockskip.core.errors import BadPhoto, UserError
from blockskip.data.photo_checks import TWIN, gaps
from blockskip.data.photo_features import features
from blockskip.data.photos import find_photos, open_photo
from blockskip.data.sightings import labels_of, look
from blockskip.data.subject_boxes import Box, propose_box, read_box
from blockskip.models import pet_finder
from blockskip.models.sources.tools import find_tool, has_tool, load_tool
from blockskip.runs.likeness_features import Embedder, Progress, square_crop
from blockskip.runs.likeness_pictures import FIRST_SEED, KeyedImages, compared
from blockskip.runs.likeness_types import Anchors, PetScale, StepLikeness, mean_of
from blockskip.runs.run import Run

Finder = Callable[[Image.Image], Box | None]


@dataclass(frozen=True)
class Photos:
    """Features of the pet's photos, (N, D). seen: rows of those trained on. held_out: of the
    others. twins: (N, N), whether two are near-duplicates, as is each of itself."""

    rows: Tensor
    seen: list[int]
    held_out: list[int]
    twins: np.ndarray

    @property
    def references(self) -> list[int]:
        """Rows that pictures are compared with."""
        return self.held_out or self.seen

    @property
    def own(self) -> list[float]:
        """Likeness of each training photo to the references except itself: a perfect picture's."""
        own = []
        for row in self.seen:
            others = [i for i in self.references if i != row]
            own += [float((self.rows[others] @ self.rows[row]).mean())] if others else []
        return own

    @property
    def copying(self) -> float | None:
        """The highest likeness of a photo to a training photo that is no near-duplicate of it, None
        for fewer than three photos. No copy of a held-out photo exceeds it."""
        likeness = (self.rows @ self.rows[self.seen].T).numpy()
        others = likeness[~self.twins[:, self.seen]]
        return float(others.max()) if len(self.rows) > 2 and others.size else None


def measure(run: Run, progress: Progress) -> tuple[dict[int, StepLikeness], PetScale, Anchors]:
    """Return the likeness of the pictures by step, what it means, and what it is compared with.

    A picture in which the finder of pets finds none is measured whole, and counted. progress(n,
    total): of two passes over photos and pictures. Raises UserError if the tool, the
    photos or the pictures cannot be used.
    """
    kind = run.settings().class_name
    find, embedder = _finder(kind), Embedder(find_tool("likeness"))
    pictures = compared(run)
    seen, held_out = _paths(run.photos_dir), _paths(run.held_out_dir)
    if not seen:
        raise BadPhoto(
            f"Run “{run.name}” has no photo that can be opened.",
            "Restore the run's folder photos/.",
        )
    num = len(seen) + len(held_out) + sum(map(len, pictures.values()))
    crops = [_photo_crop(path, find) for path in (*seen, *held_out)]
    lost = dict.fromkeys(pictures, 0)
    for step, images in pictures.items():
        for image in images.values():
            progress(len(crops), 2 * num)
            frame = find(image) if find else propose_box(image)
            lost[step] += frame is None
            crops.append(square_crop(image, frame))
    rows = embedder.embed(crops, lambda n, _: progress(num + n, 2 * num))
    photos = _photos(rows, seen, held_out)
    looks, at = {}, len(seen) + len(held_out)
    for step, images in pictures.items():
        part = rows[at : at + len(images)]
        at += len(images)
        looks[step] = _look(run, list(images), part, photos, lost[step] if find else None)
    return looks, *_scale(looks, photos, pictures)


def _photos(rows: Tensor, seen: Sequence[Path], held_out: Sequence[Path]) -> Photos:
    paths = [*seen, *held_out]
    twins = gaps([features(path) for path in paths]) < TWIN
    np.fill_diagonal(twins, True)
    first = list(range(len(seen)))
    return Photos(rows[: len(paths)], first, list(range(len(seen), len(paths))), twins)


def _look(
    run: Run, keys: Sequence[tuple[str, int]], rows: Tensor, photos: Photos, lost: int | None
) -> StepLikeness:
    settings = run.settings()
    like = (rows @ photos.rows[photos.references].T).mean(1).tolist() if keys else []
    near = (rows @ photos.rows[photos.seen].T).amax(1).tolist() if keys else []
    look = StepLikeness(not_found=lost)
    for key, value, nearest in zip(keys, like, near, strict=True):
        words = key[0].replace(",", " ").split()
        if settings.trigger in words:
            look.subject[key], look.nearest[key] = value, nearest
        elif settings.class_name in key[0]:
            look.class_word[key] = value
    return look


def _scale(
    looks: Mapping[int, StepLikeness], photos: Photos, pictures: Mapping[int, KeyedImages]
) -> tuple[PetScale, Anchors]:
    untrained, own = looks.get(0, StepLikeness()), photos.own
    gap = statistics.stdev(own) / len(own) ** 0.5 if len(own) > 1 else 0.0
    seeds = {seed for images in pictures.values() for _, seed in images if seed >= FIRST_SEED}
    return PetScale(untrained=untrained, visible_gap=gap, copying=photos.copying), Anchors(
        photos=len(photos.references),
        held_out=bool(photos.held_out),
        floor=mean_of(untrained.class_word or untrained.subject),
        ceiling=round(statistics.mean(own), 4) if own else None,
        copying=None if photos.copying is None else round(photos.copying, 4),
        rounds=len(seeds),
    )


def _paths(folder: Path) -> list[Path]:
    """Return the photos of a folder that can be opened."""
    usable = []
    for path in find_photos([folder]) if folder.is_dir() and any(folder.iterdir()) else []:
        with suppress(UserError):  # reported when the run started
            open_photo(path)
            usable.append(path)
    return usable


def _photo_crop(path: Path, find: Finder | None) -> Image.Image:
    image = open_photo(path)
    return square_crop(image, read_box(path) or (find and find(image)) or propose_box(image))


def _finder(kind: str) -> Finder | None:
    """Return what finds pets of a kind, None without the tool, or if it does not know the kind."""
    if not labels_of(kind) or not has_tool(pet_finder.TOOL):
        return None
    detector = load_tool(AutoModelForObjectDetection, find_tool(pet_finder.TOOL))
    return lambda image: look(pet_finder.look_at(image, detector), kind).frame
