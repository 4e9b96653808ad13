"""Choose the photos that are held out of training, so that likeness is measured on photos which the
model has never seen: measured on the training photos, a model that copies them does best.

Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blockskip.core import files
from blockskip.data.photo_checks import CLOSE, TWIN, gaps
from blockskip.data.photo_features import Features
from blockskip.data.subject_boxes import Box

FEWEST = 6  # photos of a set of which some are held out; of fewer, training misses every one
_SHARE, _MOST = 5, 4  # one in five, at most four


def choose(
    features: Mapping[str, Features],
    boxes: Mapping[str, Box | None],
    seed: int,
    number: int | None = None,
) -> list[str]:
    """Return the keys of the photos to hold out, [] for a set that is too small.

    features, boxes: of every photo; both share the photos' keys. number: how many, None for a
    fifth. The choice depends on the photos and the seed, not on their order or names. Photos with a
    near-duplicate and the only close-up stay in training, so that there may be fewer than `number`.
    Photos with a box come first. The first one is drawn, the others are as unlike those before them
    as possible.
    """
    if not features:
        return []
    keys = sorted(features, key=lambda key: files.fingerprint(seed, features[key].hashes))
    apart = gaps([features[key] for key in keys])
    np.fill_diagonal(apart, 1)
    wanted = _automatic(len(_distinct(apart))) if number is None else number
    close = [key for key in keys if (box := boxes.get(key)) and box.area > CLOSE]
    alone = [i for i, key in enumerate(keys) if apart[i].min() >= TWIN and [key] != close]
    chosen: list[int] = []
    while len(chosen) < wanted and (left := [i for i in alone if i not in chosen]):
        framed = [i for i in left if boxes.get(keys[i])] or left
        # of equals, the first in the drawn order
        chosen.append(max(framed, key=lambda i: min([apart[i, j] for j in chosen], default=1)))
    return [keys[i] for i in chosen]


def _distinct(apart: np.ndarray) -> list[int]:
    kept: list[int] = []
    for new in range(len(apart)):
        if all(apart[new, i] >= TWIN for i in kept):
            kept.append(new)
    return kept


def _automatic(distinct: int) -> int:
    return min(_MOST, distinct // _SHARE) if distinct >= FEWEST else 0
