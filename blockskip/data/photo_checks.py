"""Checks of a photo set: the defects of each photo, and what the set lacks.

Thresholds were chosen on the demo photos, pictures of the demo world and real photographs, degraded
step by step. The comment at each threshold gives the values measured on either side. Whether the pet is in a
photo at all, and with whom, is known only where a detector looked (data/sightings.py). Which side of
it is visible is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from blockskip.data.photo_features import GRID, HASH_CELLS, LOOK_PX, Features, features
from blockskip.data.sightings import Sighting
from blockskip.data.subject_boxes import Box, read_box

FEWEST, MOST = 4, 20  # recommended number of photos
# σ in pixels: sharp photos 0.3 to 1.1, up to 1.0 at JPEG quality 30; 0.8 to 1.4 blurred by σ = 1,
# 1.7 to 2.6 by σ = 2; 0.9 to 3.0 for a pet that moved 13 pixels during the exposure
SOFT_PX = 1.5
_NO_EDGE_PX = 6.0  # σ assumed if the blur has left no edge to measure
# share of pure white in the middle: photos up to 0.01; above 0.15 for half of those brightened by
# 2.5 stops
_WHITE = 0.15
# of 255: white pets on snow and in pale rooms up to 213; brightened by 2.5 stops 188 to 254
_PALE = 228
# of 255: night scenes and rockets at dusk from 105; darkened by 4 stops 24 to 76
_LIGHTEST = 80
# share of the bits: up to 0.125 if saved again, shrunk to 64 pixels, mirrored, 1 stop darker or 5 %
# cut off; from 0.14 for another pose in the same place, from 0.17 for other photos
TWIN = 0.13
_TWIN_COLOUR = 60  # mean difference of RGB; 53 for one stop darker
_STRIP = 2.0  # ratio of the long side to the short side
_WIDE = 1.25  # ratio of the box to the largest crop; most stretched-out pets stay below
_SPECK = 0.05  # share of the photo
# mean difference of RGB along the border of photographs: up to 17 in the same place, from 22 in
# different places
_SAME_PLACE = 18
# share of the photo: the box exceeds the first in a close-up, and stays below the second if the
# whole body shows
CLOSE, _WHOLE = 0.35, 0.6

_VIEWS = "the face from close, the whole body from the side, from behind, lying down"


@dataclass(frozen=True)
class Finding:
    """One remark on one photo. kind: small | blurred | white | dark | twin | strip | cut | speck, and
    lost | other | several | people. text: the problem and its remedy. level: warning (harmful) | hint (another photo would teach
    more)."""

    kind: str
    text: str
    level: str = "warning"


def check(
    photos: Sequence[Path], least_px: int, cache_dir: Path | None = None
) -> list[list[Finding]]:
    """Return the findings of each photo, in order. Boxes are read from the files beside the photos.

    least_px: short side in pixels at which the model trains. cache_dir: folder for cached features
    (data/photo_features.py). Raises UserError for a file that is no photo.
    """
    measured = {str(path): features(path, cache_dir) for path in photos}
    boxes = {str(path): read_box(path) for path in photos}
    names = {str(path): path.name for path in photos}
    by_photo = findings(measured, boxes, least_px, names)
    return [by_photo[str(path)] for path in photos]


def findings(
    features: Mapping[str, Features],
    boxes: Mapping[str, Box | None],
    least_px: int,
    names: Mapping[str, str] | None = None,
    sightings: Mapping[str, Sighting] | None = None,
) -> dict[str, list[Finding]]:
    """Return the findings of each photo, worst first, [] for a good one.

    All mappings share the photos' keys. `names` holds the file names that the user knows,
    `sightings` what was seen in the photos that a detector looked at.
    """
    twins = _twins(features)
    by_photo = {}
    for key, photo in features.items():
        box = boxes.get(key)
        remarks = list(_seen_alone(photo, box, least_px))
        if key in twins:
            remarks.append(_twin((names or {}).get(twins[key], twins[key])))
        if sightings and key in sightings:
            remarks += sighted(sightings[key], box)
        by_photo[key] = sorted(remarks, key=lambda f: f.level != "warning")
    return by_photo


@lru_cache(maxsize=1024)  # the page asks again for all photos whenever one is added
def _seen_alone(photo: Features, box: Box | None, least_px: int) -> tuple[Finding, ...]:
    """Return the findings that need no other photo."""
    return tuple(filter(None, (look(photo, box, least_px) for look in _LOOKS)))


def advice(
    features: Mapping[str, Features],
    boxes: Mapping[str, Box | None],
    findings: Mapping[str, Sequence[Finding]],
) -> list[str]:
    """Return up to three recommendations for the set, most useful first, [] for a good set."""
    alone = [key for key in features if all(f.kind != "twin" for f in findings[key])]
    boxed = [box for key in alone if (box := boxes.get(key)) is not None]
    harmed = [key for key in alone if any(f.level == "warning" for f in findings[key])]
    marked = sum(bool(findings[key]) for key in features)  # each carries a “!” on the page
    sentences = [_count(len(alone), len(features))]
    if _one_place([features[key] for key in alone], [boxes.get(key) for key in alone]):
        sentences.append(
            "Add photos from other places: all of these look alike around the pet, and the place "
            "would be learnt with it."
        )
    if len(harmed) > len(alone) / 2:
        sentences.append(f"Replace some of the {marked} photos that carry a “!”, where you can.")
    if len(boxed) >= FEWEST and len(boxed) == len(alone):
        if all(box.area < CLOSE for box in boxed):
            sentences.append("Add a photo of the face from close.")
        elif all(box.area > _WHOLE for box in boxed):
            sentences.append("Add a photo of the whole body, with some room around it.")
    return [sentence for sentence in sentences if sentence][:3]


def _count(alone: int, all_in: int) -> str:
    """Return advice on the number of photos, counting near-duplicates once; "" for enough."""
    twice = " (near-duplicates count once)" if alone < all_in else ""
    if alone < FEWEST:
        missing = FEWEST - alone
        noun = "photo" if missing == 1 else "photos"
        return f"Add at least {missing} more {noun}{twice}; these help most: {_VIEWS}."
    if alone == FEWEST:
        return f"Add one or two more if you can{twice}; these help most: {_VIEWS}."
    if alone > MOST:
        return (
            f"{MOST} good photos are enough{twice}: sharp, and each different from the others. "
            f"More take longer and teach little."
        )
    return ""


def _small(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    if photo.short_px >= least_px:
        return None
    return Finding(
        "small",
        f"Small: {photo.width} × {photo.height} pixels. The model learns from {least_px} on the "
        "short side, so this one is enlarged and soft. Use the original, not a preview of it.",
    )


def _blurred(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    """Judge sharpness at the training size, since a large photo may be slightly soft."""
    look_px = min(LOOK_PX, photo.short_px)
    if blur_px(photo, box) * min(1, least_px / look_px) <= SOFT_PX:
        return None
    where = "The pet is blurred" if box else "Blurred"
    return Finding("blurred", f"{where}: no edge is sharp. Choose a sharper photo.")


def blur_px(photo: Features, box: Box | None) -> float:
    """Return σ of the blur of the sharpest edges in the box, in pixels of the photo at LOOK_PX."""
    cells = [photo.soft[cell] for cell in _cells(box)]
    return max(_sharpest([cell[axis] for cell in cells]) for axis in (0, 1))


def _sharpest(sigmas: Sequence[float]) -> float:
    """Return σ of the sharpest quarter of the cells with edges, which are in focus if any are."""
    edges = [sigma for sigma in sigmas if sigma > 0]
    return float(np.percentile(edges, 25)) if edges else _NO_EDGE_PX


def _white(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    cells = _cells(box, rim=1)
    share = float(np.mean([photo.white[cell] for cell in cells]))
    light = float(np.median([np.mean(photo.colours[cell]) for cell in cells]))
    if share <= _WHITE and light <= _PALE:
        return None
    part = "the pet" if box else "the middle"
    much = f"{share:.0%} of {part} is pure white" if share > _WHITE else f"{part} is nearly white"
    return Finding("white", f"Over-exposed: {much}, without any detail. Choose a darker one.")


def _dark(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    if photo.lightest >= _LIGHTEST:
        return None
    return Finding(
        "dark",
        "Too dark: even the lightest parts are dark grey. Brighten it, or choose another one.",
    )


def _shape(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    """Judge whether the pet fits into square crops, which are no larger than the short side."""
    if box is None:
        if max(photo.width, photo.height) <= _STRIP * photo.short_px:
            return None
        return Finding(
            "strip",
            f"Very {'wide' if photo.width > photo.height else 'high'}: the squares that are "
            "trained would cut the pet or miss it. Draw a box around the pet, or crop the photo.",
        )
    long_px = max((box.right - box.left) * photo.width, (box.bottom - box.top) * photo.height)
    if long_px <= _WIDE * photo.short_px:
        return None
    return Finding(
        "cut",
        "The pet never fits whole into the squares that are trained. A photo with more room around "
        "it shows the model its whole shape.",
        "hint",
    )


def _speck(photo: Features, box: Box | None, least_px: int) -> Finding | None:
    if box is None or box.area >= _SPECK:
        return None
    return Finding(
        "speck",
        f"The pet fills only {max(0.01, box.area):.0%} of this photo: mostly its place is learnt. "
        "A closer photo teaches more.",
        "hint",
    )


def sighted(seen: Sighting, box: Box | None) -> list[Finding]:
    """Return the findings on who is in a photo. box: the pet's frame, drawn by anyone."""
    remarks = []
    if seen.can_be_found and seen.frame is None and box is None:
        text = (
            f"No {seen.kind} was found here. If it is in the photo, draw its frame; if not, leave the "
            "photo out."
        )
        remarks.append(Finding("lost", text))
    if seen.taken_for:
        text = f"Seen as “{seen.taken_for}”, not as “{seen.kind}”: please check the frame."
        remarks.append(Finding("other", text, "hint"))
    if seen.count > 1:
        text = (
            f"{seen.count} animals of its kind are here, and the other would be learnt with your pet. "
            "Choose a photo of your pet alone, or check that the frame is around it."
        )
        remarks.append(Finding("several", text))
    if seen.people:
        text = (
            "People are here, and may be learnt with your pet. Choose a photo without them, or draw "
            "the frame close around it."
        )
        remarks.append(Finding("people", text, "hint"))
    return remarks


_LOOKS: tuple[Callable[[Features, Box | None, int], Finding | None], ...] = (
    _small,
    _blurred,
    _white,
    _dark,
    _shape,
    _speck,
)


def _twin(other: str) -> Finding:
    return Finding(
        "twin", f"Nearly the same as {other}: it teaches nothing new. Keep the better of the two."
    )


def _twins(photos: Mapping[str, Features]) -> dict[str, str]:
    """Map each near-duplicate to the earlier photo that it repeats."""
    if not photos:
        return {}
    apart = gaps(list(photos.values()))
    keys, twins = list(photos), {}
    for new, key in enumerate(keys):
        earlier = [i for i in range(new) if keys[i] not in twins and apart[new, i] < TWIN]
        if earlier:
            twins[key] = keys[min(earlier, key=lambda i: apart[new, i])]
    return twins


def gaps(photos: Sequence[Features]) -> np.ndarray:
    """Return (N, N): the smallest share of differing bits between two photos.

    Either photo may be a slight crop of the other or of its mirror image. The value is 1 if their
    colours differ.
    """
    packed = bytes.fromhex("".join("".join(photo.hashes) for photo in photos))
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).reshape(len(photos), -1, HASH_CELLS**2)
    signs = bits.astype(np.float32) * 2 - 1  # (N, regions and mirror image, bits)
    colours = np.array([photo.colours for photo in photos], np.float32).reshape(-1, GRID, GRID, 3)
    best = np.ones((len(photos), len(photos)), np.float32)
    for full, other in ((0, colours), (-1, colours[:, :, ::-1])):
        dots = np.einsum("ib,jpb->ijp", signs[:, full], signs[:, :-1], optimize=True)
        ones, others = colours.reshape(len(photos), -1), other.reshape(len(photos), -1)
        tint = np.array([np.abs(one - others).mean(1) for one in ones])
        gap = (1 - dots.max(-1) / HASH_CELLS**2) / 2
        best = np.minimum(best, np.where(tint < _TWIN_COLOUR, gap, 1))
    return np.minimum(best, best.T)


def _cells(box: Box | None, rim: int = 0) -> list[int]:
    """Return the grid cells inside the box, or those mostly inside a small box.

    Without a box: all cells except a rim of `rim` cells.
    """
    if box is None:
        inside = range(rim, GRID - rim)
        return [GRID * row + column for row in inside for column in inside]
    columns, rows = _span(box.left, box.right), _span(box.top, box.bottom)
    return [GRID * row + column for row in rows for column in columns]


def _span(first: float, last: float) -> list[int]:
    """Return the cells along one axis between two edges, given as shares 0 … 1."""
    complete = [i for i in range(GRID) if first <= i / GRID and (i + 1) / GRID <= last]
    most = [i for i in range(GRID) if first <= (i + 0.5) / GRID <= last]
    return complete or most or [min(GRID - 1, int((first + last) / 2 * GRID))]


def _one_place(photos: Sequence[Features], boxes: Sequence[Box | None]) -> bool:
    """Return whether most pairs of three or more photos have the same colours around the pet.

    Compares the cells along the upper edge and both sides, without those in the box.
    """
    if len(photos) < 3:
        return False
    rim = [i for i in range(GRID * GRID) if i < GRID or i % GRID in (0, GRID - 1)]
    inside = [_cells(box) if box else () for box in boxes]
    around = np.array([[cell not in cells for cell in rim] for cells in inside])  # (N, rim)
    colours = np.array([photo.colours for photo in photos], np.float32)[:, rim]  # (N, rim, 3)
    alike = []
    for i in range(len(photos) - 1):
        both = around[i] & around[i + 1 :]
        count = both.sum(1)
        apart = np.abs(colours[i] - colours[i + 1 :]).sum(2)
        mean = (apart * both).sum(1) / (3 * np.maximum(count, 1))
        alike += list((count >= GRID) & (mean < _SAME_PLACE))
    return sum(alike) >= 0.8 * len(alike)
