"""The best of many photos: sharp, each different, the pet large; whatever their order."""

import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from blockskip.data import photo_checks, photo_choice
from blockskip.data.photo_features import measure
from blockskip.data.subject_boxes import Box


def scene(place: int, pose: int) -> Image.Image:
    """A sharp picture: one of some places, with a pose of its own."""
    rng = np.random.default_rng([place, pose])
    ground = np.random.default_rng(place).integers(40, 200, 3)
    cells = np.clip(ground + rng.integers(-60, 60, (9, 9, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(cells).resize((540, 540), Image.Resampling.NEAREST)


def chosen(pictures, number, boxes=None):
    features = {name: measure(picture) for name, picture in pictures.items()}
    boxes = {name: (boxes or {}).get(name) for name in pictures}
    findings = photo_checks.findings(features, boxes, 512)
    return photo_choice.best(features, boxes, findings, number)


@pytest.fixture(scope="module")
def album():
    """Four poses in each of three places."""
    return {f"{place}{pose}": scene(place, pose) for place in range(3) for pose in range(4)}


def test_a_blurred_photo_is_left_before_a_sharp_one(album):
    blurred = {
        f"soft {name}": picture.filter(ImageFilter.GaussianBlur(6))
        for name, picture in album.items()
    }
    kept = chosen({**blurred, **album}, 6)
    assert len(kept) == 6 and not any(name.startswith("soft") for name in kept)


def test_every_place_is_kept(album):
    """Three of twelve: one from each place, though all are equally sharp."""
    assert {name[0] for name in chosen(album, 3)} == {"0", "1", "2"}


def test_of_near_duplicates_only_the_better_one_is_kept(album):
    soft = {f"again {name}": p.filter(ImageFilter.GaussianBlur(1)) for name, p in album.items()}
    kept = chosen({**soft, **album}, 20)
    assert sorted(kept) == sorted(album), "the sharper of each two, and fewer than asked for"


def test_a_speck_is_left_before_a_pet_that_fills_the_photo(album):
    boxes = {name: Box(0.4, 0.4, 0.5, 0.5) for name in album}
    large = {name: Box(0.2, 0.2, 0.8, 0.8) for name in ("00", "10", "20")}
    assert set(chosen(album, 3, boxes | large)) == set(large)


def test_order_and_names_do_not_matter(album):
    names = list(album)
    random.Random(3).shuffle(names)
    assert set(chosen({name: album[name] for name in names}, 5)) == set(chosen(album, 5))
    renamed = {f"x{name}": picture for name, picture in album.items()}
    assert {name[1:] for name in chosen(renamed, 5)} == set(chosen(album, 5))


def test_few_photos_are_all_kept_in_their_order(album):
    assert chosen(album, 12) == list(album)
    kept = chosen(album, 7)
    assert kept == [name for name in album if name in kept]
