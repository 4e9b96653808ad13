"""Cut square crops from photos (docs/method.md §1.2).

The trainer and the studio use the same functions, so this module does not import torch.

The photo is scaled to a short side of s_max. The crop's side follows t. Its position is uniform
over the photo or, given a box around the pet, over the positions that respect the box: along each
axis the crop lies inside the box or contains it. A crop of side s then covers min(s, w) × min(s, h)
pixels of a w × h box. This is the share min(1, s/w) · min(1, s/h), the most that a square of that
side can cover. A box no larger than the crop is always covered completely, and a box that fits into
s_max × s_max is covered to at least (s_min / s_max)². A box cannot enlarge a pet that is small in
its photo: at most w·h/s² of a crop of side s shows such a pet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from blockskip.core.settings import Settings
from blockskip.data.photos import Photo, open_photo, scale_photo
from blockskip.data.subject_boxes import Box


class Crop(NamedTuple):
    """A square in the photo scaled to short side s_max, in pixels."""

    left: int
    top: int
    side: int


def scaled_size(photo: Photo, short_px: int) -> tuple[int, int]:
    """Return (width, height) in pixels of a photo scaled to a short side of `short_px`."""
    factor = short_px / min(photo.width, photo.height)
    return (max(short_px, round(photo.width * factor)), max(short_px, round(photo.height * factor)))


def box_edges(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a box in whole pixels, at least one pixel wide and
    high."""
    left, top = min(width - 1, round(box.left * width)), min(height - 1, round(box.top * height))
    right, bottom = round(box.right * width), round(box.bottom * height)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def crop_range(length: int, side: int, first: int, last: int) -> tuple[int, int]:
    """Return the smallest and greatest position of a crop along an axis of `length` pixels.

    There a crop of `side` ≤ `length` pixels lies inside the box's [first, last), or contains it.
    """
    low, high = sorted((first, last - side))
    return max(0, low), min(high, length - side)


def place_crop(
    photo: Photo,
    settings: Settings,
    multiple: int,
    t: float,
    share: Callable[[], float],
    between: Callable[[int, int], int],
) -> Crop:
    """Return the crop of one draw at noise t, with a side divisible by `multiple` pixels.

    share: returns a random number in [0, 1), called only for the patch schedule “random”. between:
    returns a random integer from a closed range, called for left, then for top.
    """
    fraction = {"dynamic": t, "reversed": 1 - t}.get(settings.plan.patches, 1.0)
    if settings.plan.patches == "random":
        fraction = share()
    side = settings.plan.s_min_px + fraction * (settings.plan.s_max_px - settings.plan.s_min_px)
    side = int(side / multiple + 0.5) * multiple
    width, height = scaled_size(photo, settings.plan.s_max_px)
    edges = box_edges(photo.box or Box(0, 0, 1, 1), width, height)
    left = between(*crop_range(width, side, edges[0], edges[2]))
    top = between(*crop_range(height, side, edges[1], edges[3]))
    return Crop(left, top, side)


def crop_image(photo: Image.Image, crop: Crop, side_px: int, flip: bool = False) -> Image.Image:
    """Cut a crop from a photo scaled to short side s_max, and resize it to side_px x side_px."""
    left, top, side = crop
    image = photo.crop((left, top, left + side, top + side))
    if side != side_px:
        image = image.resize((side_px, side_px), Image.Resampling.LANCZOS)
    return ImageOps.mirror(image) if flip else image


def crops_at(
    photo: Photo,
    settings: Settings,
    multiple: int,
    noise: tuple[float, ...] = (0.9, 0.5, 0.1),
    seed: int = 0,
) -> list[tuple[float, Image.Image]]:
    """Return example crops of a photo as the trainer sees them: (t, crop) for each noise t.

    The crops have the training side. Another seed gives other examples. Raises UserError if the
    photo can no longer be opened.
    """
    rng = np.random.default_rng(seed)
    scaled = scale_photo(open_photo(photo.path), settings.plan.s_max_px)
    examples = []
    for t in noise:
        crop = place_crop(
            photo,
            settings,
            multiple,
            t,
            lambda: float(rng.random()),
            lambda low, high: int(rng.integers(low, high, endpoint=True)),
        )
        examples.append((t, crop_image(scaled, crop, settings.plan.side_px)))
    return examples
