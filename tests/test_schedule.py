"""The schedule is a pure function of photos, settings and seed (METHOD.md §1.1, §1.2)."""

import dataclasses
from pathlib import Path

import pytest
import torch

from blockskip import flow
from blockskip.config import Settings
from blockskip.photos import Photo
from blockskip.schedule import build_schedule, scaled_size, train_side

PHOTOS = [
    Photo(path=Path(f"{i}.png"), caption="a cat", width=w, height=h, sha="")
    for i, (w, h) in enumerate([(640, 480), (300, 900), (512, 512)])
]
SETTINGS = Settings(s_min_px=256, s_max_px=512, steps=200, batch=2, accumulation=2, seed=3)


def test_same_seed_same_schedule_and_another_seed_another():
    assert build_schedule(PHOTOS, SETTINGS, 16) == build_schedule(PHOTOS, SETTINGS, 16)
    other = dataclasses.replace(SETTINGS, seed=4)
    assert build_schedule(PHOTOS, other, 16) != build_schedule(PHOTOS, SETTINGS, 16)


def test_a_longer_run_begins_with_the_shorter_one():
    longer = dataclasses.replace(SETTINGS, steps=300)
    assert build_schedule(PHOTOS, longer, 16)[:800] == build_schedule(PHOTOS, SETTINGS, 16)


@pytest.mark.parametrize("patches", ["dynamic", "reversed", "random", "resize", "full"])
def test_crops_lie_in_the_photo_and_follow_t(patches):
    settings = dataclasses.replace(SETTINGS, patches=patches)
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
    assert train_side(settings) == (512 if patches == "full" else 256)


def test_photos_take_turns():
    draws = build_schedule(PHOTOS, SETTINGS, 16)
    for epoch in range(len(draws) // 3):
        assert {d.photo for d in draws[3 * epoch : 3 * epoch + 3]} == {0, 1, 2}


@pytest.mark.parametrize(
    "sampler, mean", [("logit_normal", 0.5), ("uniform", 0.5), ("shifted_sigmoid", 0.72)]
)
def test_timesteps_follow_their_law(sampler, mean):
    times = torch.tensor([flow.sample_t(sampler, flow.generator(0, i)) for i in range(3000)])
    assert 0 <= times.min() and times.max() <= 1
    assert abs(times.mean() - mean) < 0.02


def test_noising_and_velocity_agree():
    """x_t + (1 - t) v = ε and x_t - t v = x_0, for every t."""
    latent, noise, t = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.tensor([0, 0.3, 0.7, 1])
    x, v = flow.add_noise(latent, noise, t), flow.velocity(latent, noise)
    torch.testing.assert_close(x - t.view(-1, 1, 1) * v, latent)
    torch.testing.assert_close(x + (1 - t.view(-1, 1, 1)) * v, noise)
