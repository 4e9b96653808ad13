"""What is shown is what is trained."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from blockskip.core.settings import Settings
from blockskip.data.crops import crops_at
from blockskip.data.photos import read_photos
from blockskip.data.schedule import build_schedule
from blockskip.data.subject_boxes import Box
from blockskip.training import encode

SETTINGS = Settings.of(s_min_px=32, s_max_px=64, steps=300)


@pytest.fixture
def photo(tmp_path):
    """Each place of it looks different: red tells x, green tells y, in a frame of its own."""
    y, x = np.mgrid[0:128, 0:256]
    pixels = np.stack([x, 2 * y, np.full_like(x, 90)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (found,), _ = read_photos([tmp_path / "a.png"], "a cat")
    return dataclasses.replace(found, box=Box(0.5, 0.25, 0.9, 0.8))


class Kind:
    """A family whose latent is the crop itself, one token a crop."""

    def encode_images(self, pipe, pixels):
        return ((pixels + 1) * 127.5).round().flatten(1)[:, None]


@pytest.mark.parametrize("patches", ["dynamic", "reversed", "resize", "full"])
def test_the_trainer_is_given_one_of_the_crops_that_are_shown(photo, patches):
    """At the noise of each draw, among the pictures for many seeds is the very one encoded."""
    settings = SETTINGS.changed(patches=patches, steps=3)
    draws = build_schedule([photo], settings, 16)
    device, side = encode.CPU, settings.plan.side_px
    given = encode.encode_draws(Kind(), None, [photo], draws, settings, device).numpy()
    for draw, latent in zip(draws, given, strict=True):
        trained = latent.reshape(3, side, side).transpose(1, 2, 0)
        shown = (crops_at(photo, settings, 16, (draw.t,), seed)[0] for seed in range(2000))
        assert any(np.array_equal(np.asarray(image), trained) for _, image in shown)


def test_the_same_crop_is_encoded_once(photo, monkeypatch):
    encoded, family = [], Kind()
    pixels = Kind.encode_images
    monkeypatch.setattr(
        Kind, "encode_images", lambda *given: encoded.append(len(given[-1])) or pixels(*given)
    )
    settings = SETTINGS.changed(patches="full", flip=True, steps=40, encode_batch=16)
    draws = build_schedule([photo], settings, 16)
    seen: list[tuple[int, int]] = []
    given = encode.encode_draws(
        family, None, [photo], draws, settings, encode.CPU, lambda *at: seen.append(at)
    )
    distinct = {(draw.left, draw.top, draw.flip) for draw in draws}
    assert sum(encoded) == len(distinct) < len(draws) and max(encoded) == 16
    assert seen[-1] == (len(distinct), len(distinct))
    alone = [encode.encode_draws(family, None, [photo], [d], settings, encode.CPU) for d in draws]
    assert all(latent.equal(one[0]) for latent, one in zip(given, alone, strict=True))


def test_many_photos_are_decoded_once_each_while_they_fit(tmp_path, monkeypatch):
    """And what does not fit is decoded again, to the same latents."""
    for k in range(60):
        Image.new("RGB", (80, 64), (4 * k, 0, 0)).save(tmp_path / f"{k}.png")
    photos, _ = read_photos(sorted(tmp_path.iterdir()), "a cat")
    opened, open_photo = [], encode.open_photo
    monkeypatch.setattr(encode, "open_photo", lambda path: opened.append(path) or open_photo(path))
    draws = build_schedule(photos, SETTINGS, 16)

    def encoded():
        opened.clear()
        return encode.encode_draws(Kind(), None, photos, draws, SETTINGS, encode.CPU)

    latents = encoded()
    assert len(opened) == len({draw.photo for draw in draws}) == 60
    for room in (10 * 4 * 80 * 64, 1):  # of ten photos, and of not even one
        monkeypatch.setattr(encode, "PHOTO_CACHE_BYTES", room)
        assert encoded().equal(latents)
        assert 60 < len(opened) <= len(draws)


def test_high_noise_sees_the_pet_and_low_noise_a_close_up_of_it(photo):
    """The greatest share of red in a crop tells how far right it reaches."""
    for seed in range(20):
        shown = crops_at(photo, SETTINGS, 16, seed=seed)
        assert [t for t, _ in shown] == [0.9, 0.5, 0.1]
        assert all(image.size == (32, 32) for _, image in shown)
        reach = [np.ptp(np.asarray(image)[..., 0].astype(int)) for _, image in shown]
        assert reach[0] > reach[1] > reach[2] > 0
        close = np.asarray(shown[2][1])
        assert close[..., 0].min() >= 0.5 * 255 - 4 and close[..., 0].max() <= 0.9 * 255 + 4
    again = crops_at(photo, SETTINGS, 16, seed=19)
    assert all(one == other for one, other in zip(again, shown, strict=True))


def test_nothing_here_needs_torch():
    code = "import sys, blockskip.data.crops, blockskip.data.subject_boxes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
