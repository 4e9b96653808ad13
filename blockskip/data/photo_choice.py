"""Choose the best of many photos: sharp, well lit, with the pet large enough, and each unlike the
others.

The weights are guesses that keep these orders: a photo with a defect is taken after one without,
unless it shows something quite different. Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from blockskip.core import files
from blockskip.data.photo_checks import SOFT_PX, TWIN, Finding, blur_px, gaps
from blockskip.data.photo_features import Features
from blockskip.data.subject_boxes import Box

# share of its worth that a photo keeps with each finding (photo_checks.Finding.kind)
_WORTH = {"small": 0.5, "blurred": 0.4, "white": 0.4, "dark": 0.4, "strip": 0.6, "cut": 0.8}
_WORTH |= {"lost": 0.2, "several": 0.5, "people": 0.8, "other": 0.9}
_LARGE = 0.15  # share of the photo from which a larger pet is worth no more
_UNKNOWN_SIZE = 0.6  # worth where the pet was found on other photos, but not on this one
_FAR_BITS, _FAR_COLOUR, _FAR_SIZE = 0.5, 80.0, 3.0  # as unlike as can be: bits, RGB, halvings
_ALIKE = 0.15  # of the worth that a photo keeps beside an equal one


def best(
    features: Mapping[str, Features],
    boxes: Mapping[str, Box | None],
    findings: Mapping[str, Sequence[Finding]],
    number: int,
) -> list[str]:
    """Return the keys of the best `number` photos, in the order of `features`.

    All mappings share the photos' keys. Of near-duplicates only the better one is taken, so that
    there may be fewer. The choice depends on the photos, not on their order or names.
    """
    if len(features) <= number:
        return list(features)
    keys = sorted(features, key=lambda key: files.fingerprint(features[key].hashes))
    framed = any(boxes.get(key) for key in keys)
    worths = np.array([_worth(features[k], boxes.get(k), findings[k], framed) for k in keys])
    photos, areas = [features[key] for key in keys], [boxes.get(key) for key in keys]
    apart, unlike = gaps(photos), _unlike(photos, areas)
    chosen: list[int] = []
    free = np.ones(len(keys), bool)
    while len(chosen) < number and free.any():
        gains = worths * (unlike[:, chosen].min(1) if chosen else 1)
        chosen.append(int(np.where(free, gains, -1).argmax()))
        free &= apart[:, chosen[-1]] >= TWIN
        free[chosen[-1]] = False
    kept = {keys[index] for index in chosen}
    return [key for key in features if key in kept]


def _worth(photo: Features, box: Box | None, findings: Sequence[Finding], framed: bool) -> float:
    """Return how good a photo is by itself, 0 … 1. framed: whether any photo has a box."""
    worth = 1 / (1 + (blur_px(photo, box) / SOFT_PX) ** 2)
    for finding in findings:
        worth *= _WORTH.get(finding.kind, 1.0)
    if box is not None:
        return worth * math.sqrt(min(1.0, max(box.area, 0.01) / _LARGE))
    return worth * (_UNKNOWN_SIZE if framed else 1.0)


def _unlike(photos: Sequence[Features], boxes: Sequence[Box | None]) -> np.ndarray:
    """Return (N, N): how unlike two photos are, _ALIKE … 1, by shapes, colours and the pet's size."""
    colours = np.array([photo.colours for photo in photos], np.float32)
    tint = np.abs(colours[:, None] - colours[None]).mean((2, 3)) / _FAR_COLOUR
    shape = gaps(photos) / _FAR_BITS
    sizes = np.log2([max(box.area, 0.01) if box else np.nan for box in boxes])
    size = np.nan_to_num(np.abs(sizes[:, None] - sizes[None])) / _FAR_SIZE
    weights, parts = np.array([0.4, 0.4, 0.2]), np.minimum(np.stack([shape, tint, size]), 1)
    return _ALIKE + (1 - _ALIKE) * np.tensordot(weights, parts, 1)
