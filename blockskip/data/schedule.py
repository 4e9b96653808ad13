"""Photos, settings and a seed → every draw of the run (docs/method.md §1.1, §1.2).

A draw is one training example of one micro-step: photo, mirror, t, crop box, noise seed, caption.
The schedule is a pure function; nothing random happens after it. Which square a draw sees is
data/crops.py's: high noise sees the whole pet, low noise a close-up. A box around the pet moves the crops
of its photo and changes nothing else: each number takes its turn in the random stream, whatever the
range it is drawn from.

Some draws carry the bare class word, with the untrained model's own answer as their target (ours,
after "differential output preservation" in other trainers): “a photo of a cat” must not become this
cat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from blockskip.core.flow_matching import generator, sample_t
from blockskip.core.settings import Settings
from blockskip.data.crops import place_crop
from blockskip.data.crops import scaled_size as scaled_size  # for those who ask the schedule
from blockskip.data.photos import Photo


@dataclass(frozen=True)
class Draw:
    """One training example. The box lies in the photo scaled to short side s_max, in pixels."""

    index: int
    photo: int
    flip: bool
    t: float
    left: int
    top: int
    side: int
    noise_seed: int
    prior: bool  # with the bare class word, and the untrained model's answer as its target


def build_schedule(photos: Sequence[Photo], settings: Settings, multiple: int) -> list[Draw]:
    """All draws of a run, in order. Photos take turns: each is seen once before any is seen
    again."""
    draws = []
    for index in range(settings.num_draws):
        rng = generator(settings.seed, "draw", index)
        epoch, place = divmod(index, len(photos))
        order = torch.randperm(len(photos), generator=generator(settings.seed, "epoch", epoch))
        photo = int(order[place])
        flip = settings.flip and torch.rand((), generator=rng).item() < 0.5
        t = sample_t(settings.timesteps, rng)
        crop = place_crop(
            photos[photo], settings, multiple, t, partial(_share, rng), partial(_between, rng)
        )
        seed = int(torch.randint(0, 2**62, (), generator=rng))
        prior = torch.rand((), generator=rng).item() < settings.prior
        draws.append(Draw(index, photo, flip, t, *crop, seed, prior))
    return draws


def _share(rng: torch.Generator) -> float:
    return torch.rand((), generator=rng, dtype=torch.float64).item()


def _between(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=rng))
