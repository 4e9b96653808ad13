"""Which square of a photo a draw sees (docs/method.md §1.2), without torch: what the studio shows is cut
by the very functions that the trainer cuts with.

The photo is scaled until its short side is s_max. The crop's side follows t; its place is uniform
over the photo or, where the photo has a box around the pet, over the places that respect the box:
along each axis the crop lies inside the box, or contains it. So a crop of side s covers min(s, w) ×
min(s, h) pixels of a box of w × h: the share min(1, s/w) · min(1, s/h) of it, more than which no
square of that side can cover. A box not larger than the crop is always seen whole, and of one that
fits into the square s_max × s_max at least (s_min / s_max)² is seen. What a box cannot do: enlarge
a pet that is small in its photo; a crop of side s holds at most w·h/s² of such a pet.
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
    """(width, height) of a photo whose short side is `short_px`."""
    factor = short_px / min(photo.width, photo.height)
    return (max(short_px, round(photo.width * factor)), max(short_px, round(photo.height * factor)))


def box_edges(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a box in a picture of that size, in whole pixels, at least one
    pixel wide and high."""
    left, top = min(width - 1, round(box.left * width)), min(height - 1, round(box.top * height))
    right, bottom = round(box.right * width), round(box.bottom * height)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def crop_range(length: int, side: int, first: int, last: int) -> tuple[int, int]:
    """Smallest and greatest position along an axis of `length` pixels at which a crop of that side
    (≤ length) lies inside [first, last), or contains it. Without a box that is the whole axis."""
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
    """The crop of one draw at noise t. The side is a multiple of the family's pixel multiple.

    share: a random number in [0, 1), asked for by the patch schedule “random” alone. between: a
    random whole number from the first to the second, both included; asked for left, then for top.
    """
    part = {"dynamic": t, "reversed": 1 - t}.get(settings.plan.patches, 1.0)
    if settings.plan.patches == "random":
        part = share()
    side = settings.plan.s_min_px + part * (settings.plan.s_max_px - settings.plan.s_min_px)
    side = int(side / multiple + 0.5) * multiple
    width, height = scaled_size(photo, settings.plan.s_max_px)
    edges = box_edges(photo.box or Box(0, 0, 1, 1), width, height)
    left = between(*crop_range(width, side, edges[0], edges[2]))
    top = between(*crop_range(height, side, edges[1], edges[3]))
    return Crop(left, top, side)


def crop_image(photo: Image.Image, crop: Crop, side_px: int, flip: bool = False) -> Image.Image:
    """The crop of a photo (already scaled to short side s_max), resized to side_px x side_px."""
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
    """What the trainer will see of a photo: for each noise t, (t, an example of a crop).

    The pictures have the side that the model is trained at. seed: another one shows other examples.
    Raises UserError when the photo can no longer be opened.
    """
    source = np.random.default_rng(seed)
    scaled = scale_photo(open_photo(photo.path), settings.plan.s_max_px)
    shown = []
    for t in noise:
        crop = place_crop(
            photo,
            settings,
            multiple,
            t,
            lambda: float(source.random()),
            lambda low, high: int(source.integers(low, high, endpoint=True)),
        )
        shown.append((t, crop_image(scaled, crop, settings.plan.side_px)))
    return shown
