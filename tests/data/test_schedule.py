"""The schedule is a pure function of photos, settings and seed (docs/method.md §1.1, §1.2)."""

import dataclasses
import hashlib
import random
from pathlib import Path

import pytest
import torch

from blockskip.core import flow_matching
from blockskip.core.settings import Settings
from blockskip.data.crops import box_edges, crop_range
from blockskip.data.photos import Photo
from blockskip.data.schedule import build_schedule, scaled_size
from blockskip.data.subject_boxes import Box

PHOTOS = [
    Photo(path=Path(f"{i}.png"), caption="a cat", width=w, height=h, sha="")
    for i, (w, h) in enumerate([(640, 480), (300, 900), (512, 512)])
]
SETTINGS = Settings.of(s_min_px=256, s_max_px=512, steps=200, batch=2, accumulation=2, seed=3)


def test_same_seed_same_schedule_and_another_seed_another():
    assert build_schedule(PHOTOS, SETTINGS, 16) == build_schedule(PHOTOS, SETTINGS, 16)
    other = SETTINGS.changed(seed=4)
    assert build_schedule(PHOTOS, other, 16) != build_schedule(PHOTOS, SETTINGS, 16)


def test_a_longer_run_begins_with_the_shorter_one():
    longer = SETTINGS.changed(steps=300)
    assert build_schedule(PHOTOS, longer, 16)[:800] == build_schedule(PHOTOS, SETTINGS, 16)


@pytest.mark.parametrize("patches", ["dynamic", "reversed", "random", "resize", "full"])
def test_crops_lie_in_the_photo_and_follow_t(patches):
    settings = SETTINGS.changed(patches=patches, shift=3.0)
    draws = build_schedule(PHOTOS, settings, 16)
    assert len(draws) == 800
    for draw in draws:
        width, height = scaled_size(PHOTOS[draw.photo], 512)
        assert min(width, height) == 512
        assert 0 <= draw.left <= width - draw.side and 0 <= draw.top <= height - draw.side
        assert draw.side % 16 == 0 and 256 <= draw.side <= 512
        share = {"dynamic": draw.t, "reversed": 1 - draw.t}.get(patches)
        if share is not None:
            assert abs(draw.side - (256 + 256 * share)) <= 8
        elif patches != "random":
            assert draw.side == 512
    if patches == "random":
        assert len({draw.side for draw in draws}) == 17  # the paper's 17 sides
    assert settings.plan.side_px == (512 if patches == "full" else 256)


@pytest.mark.parametrize(
    "patches, digest",
    [
        ("dynamic", "cf44db4f13473117"),
        ("reversed", "eab5d561be4e0383"),
        ("random", "6c059024233bcae3"),
        ("resize", "fdd52a5302c9cf03"),
        ("full", "fdd52a5302c9cf03"),
    ],
)
def test_without_boxes_draws_are_those_of_the_version_before_boxes(patches, digest):
    """Recorded before crops knew of boxes: runs begun then go on with the same draws."""
    settings = SETTINGS.changed(patches=patches, prior=0.2, flip=True)
    draws = build_schedule(PHOTOS, settings, 16)
    told = [(d.photo, d.flip, d.left, d.top, d.side, d.noise_seed, d.prior) for d in draws]
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:16] == digest


def boxed(seed: int) -> Photo:
    """A photo of some size and shape with a box of some size and place, tiny and whole ones too."""
    chance = random.Random(seed)
    width, height = chance.choice([(640, 480), (480, 640), (513, 512), (4000, 700), (90, 1200)])
    share = chance.choice([0.01, 0.1, 0.4, 0.8, 1.0])
    wide, high = (max(0.002, share * chance.random() ** 0.3) for _ in "wh")
    left, top = chance.uniform(0, 1 - wide), chance.uniform(0, 1 - high)
    box = Box(left, top, min(1, left + wide), min(1, top + high))
    return Photo(Path("a.png"), "a cat", width, height, "", box)


@pytest.mark.parametrize("patches", ["dynamic", "reversed", "random", "resize", "full"])
def test_a_crop_covers_as_much_of_the_box_as_its_side_can(patches):
    photos = [boxed(seed) for seed in range(60)]
    settings = SETTINGS.changed(patches=patches, flip=True, prior=0.2)
    draws = build_schedule(photos, settings, 16)
    plain = build_schedule([dataclasses.replace(p, box=None) for p in photos], settings, 16)
    for draw, same in zip(draws, plain, strict=True):
        width, height = scaled_size(photos[draw.photo], 512)
        left, top, right, bottom = box_edges(photos[draw.photo].box, width, height)
        assert 0 <= draw.left <= width - draw.side and 0 <= draw.top <= height - draw.side
        for start, first, last in ((draw.left, left, right), (draw.top, top, bottom)):
            seen = min(start + draw.side, last) - max(start, first)
            assert seen == min(draw.side, last - first)
        moved = dataclasses.replace(same, left=draw.left, top=draw.top)
        assert draw == moved, "a box moves the crop and nothing else"


def test_every_place_that_respects_the_box_is_drawn():
    """Against a search over all positions: none is missing, at the photo's edge neither."""
    for length, side, first, last in [
        (20, 8, 3, 9),
        (20, 8, 3, 17),
        (20, 8, 0, 2),
        (20, 8, 19, 20),
    ]:
        low, high = crop_range(length, side, first, last)
        good = [
            start
            for start in range(length - side + 1)
            if min(start + side, last) - max(start, first) == min(side, last - first)
        ]
        assert good == list(range(low, high + 1))
    whole = Photo(Path("a.png"), "a cat", 700, 512, "", Box(0, 0, 1, 1))
    assert build_schedule([whole], SETTINGS, 16) == build_schedule(
        [dataclasses.replace(whole, box=None)], SETTINGS, 16
    )


def test_photos_take_turns():
    draws = build_schedule(PHOTOS, SETTINGS, 16)
    for epoch in range(len(draws) // 3):
        assert {d.photo for d in draws[3 * epoch : 3 * epoch + 3]} == {0, 1, 2}


@pytest.mark.parametrize(
    "sampler, mean", [("logit_normal", 0.5), ("uniform", 0.5), ("shifted_sigmoid", 0.72)]
)
def test_timesteps_follow_their_law(sampler, mean):
    times = torch.tensor(
        [flow_matching.sample_t(sampler, flow_matching.generator(0, i)) for i in range(3000)]
    )
    assert times.min() >= 0 and times.max() <= 1
    assert abs(times.mean() - mean) < 0.02


def test_noising_and_velocity_agree():
    """x_t + (1 - t) v = ε and x_t - t v = x_0, for every t."""
    latent, noise, t = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.tensor([0, 0.3, 0.7, 1])
    x, v = flow_matching.add_noise(latent, noise, t), flow_matching.velocity(latent, noise)
    torch.testing.assert_close(x - t.view(-1, 1, 1) * v, latent)
    torch.testing.assert_close(x + (1 - t.view(-1, 1, 1)) * v, noise)
