"""Which photos are held out: by the photos and the seed alone, and never one that training needs."""

import random

import numpy as np
import pytest
from PIL import Image

from blockskip.data import held_out
from blockskip.data.photo_features import measure
from blockskip.data.subject_boxes import Box

NEAR, FAR = Box(0.1, 0.1, 0.9, 0.9), Box(0.3, 0.3, 0.6, 0.6)


def picture(seed: int) -> Image.Image:
    """A picture of large random areas, unlike those of other seeds."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(rough).resize((160, 160), Image.Resampling.BICUBIC)


PICTURES = [picture(seed) for seed in range(21)]
FEATURES = [measure(image) for image in PICTURES]


def photos(num, framed=range(100)):
    """Features and frames of `num` different photos."""
    features = {f"{k}.jpg": FEATURES[k] for k in range(num)}
    return features, {f"{k}.jpg": FAR if k in framed else None for k in range(num)}


@pytest.mark.parametrize(
    "num, held", [(0, 0), (1, 0), (5, 0), (6, 1), (9, 1), (10, 2), (15, 3), (20, 4), (21, 4)]
)
def test_a_fifth_of_six_and_more(num, held):
    chosen = held_out.choose(*photos(num), seed=0)
    assert len(set(chosen)) == held


def test_the_choice_is_the_photos_and_the_seeds_not_the_orders_or_the_names():
    features, boxes = photos(12)
    chosen = held_out.choose(features, boxes, seed=3)
    mixed = list(features)
    random.Random(1).shuffle(mixed)
    assert held_out.choose({k: features[k] for k in mixed}, boxes, seed=3) == chosen
    renamed = {f"x{k}": features[k] for k in mixed}
    frames = {f"x{k}": boxes[k] for k in mixed}
    assert held_out.choose(renamed, frames, seed=3) == [f"x{k}" for k in chosen]
    others = {tuple(held_out.choose(features, boxes, seed)) for seed in range(12)}
    assert len(others) > 3


@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_stay_in_training_and_count_once(seed):
    features, boxes = photos(9)
    softer = PICTURES[4].resize((120, 120)).resize((160, 160))
    features["again.jpg"], boxes["again.jpg"] = measure(softer), FAR
    chosen = held_out.choose(features, boxes, seed)
    assert len(chosen) == 1, "nine different photos"
    assert not {"4.jpg", "again.jpg"} & set(held_out.choose(features, boxes, seed, number=8))


@pytest.mark.parametrize("seed", range(6))
def test_framed_ones_come_first_and_the_only_close_up_stays(seed):
    features, boxes = photos(10, framed=(2, 5, 7))
    boxes["5.jpg"] = NEAR
    assert set(held_out.choose(features, boxes, seed)) == {"2.jpg", "7.jpg"}
    more = held_out.choose(features, boxes, seed, number=4)
    assert set(more[:2]) == {"2.jpg", "7.jpg"} and "5.jpg" not in more and len(more) == 4


def test_they_are_spread():
    """Of five pairs of similar places, two are never of the same pair."""
    features, boxes = {}, {}
    for place in range(5):
        for turn in range(2):
            mixed = Image.blend(PICTURES[place], PICTURES[10 + 2 * place + turn], 0.35)
            features[f"{place}-{turn}"], boxes[f"{place}-{turn}"] = measure(mixed), None
    for seed in range(20):
        first, second = held_out.choose(features, boxes, seed, number=2)
        assert first[0] != second[0]
