"""A row of the ablation's tables: its change of settings and its trainer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from blockskip.core.settings import Settings
from blockskip.training.trainer import Trainer

Override = Callable[[Settings, str], Settings]  # (settings, name of the cell) → settings
NUM_BLOCKS = 18  # of the demo model
WINDOWS = (2, 5, 10, 20, 50, 100)  # percent of the run that one window serves; 100: computed once
# two splits (front, back) for each skip ratio in percent: the preset's, and one with more at the back
SPLITS = {30: ((4, 1), (2, 3)), 40: ((6, 1), (4, 3)), 50: ((6, 3), (4, 5))}
SANA_SPANS = {30: (4, 0), 40: (4, 1), 50: (5, 1)}  # the preset's, for the demo SANA


@dataclass(frozen=True)
class Variant:
    """A row. key: its name in files. baseline: the row it is compared with, cell by cell. framed:
    whether every photo has the proposed box around the pet. model: a key of presets/models.toml.
    sampler_shift: the shift of timesteps with which the judged pictures are sampled."""

    key: str
    title: str
    override: Override
    baseline: str = "lora"
    trainer: type[Trainer] | None = Trainer  # None: no training
    framed: bool = False
    model: str = "demo"
    sampler_shift: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table. for_tuning: whether its subjects are those that settings are tuned on instead of
    those reported on. shipped: whether they are the demo pets of the program."""

    key: str
    title: str
    variants: tuple[Variant, ...]
    subjects: int
    seeds: int
    for_tuning: bool = False
    shipped: bool = False


def override(**fields: object) -> Override:
    """Return an override that sets fields of Settings in every cell."""
    return lambda settings, cell: settings.changed(**fields)


def skip_blocks(front: int, back: int, **fields: object) -> Override:
    """Return an override that skips so many blocks at the front and at the back."""
    return override(front=front, back=back, **fields)


def with_window(front: int, back: int, percent: int) -> Override:
    """Return an override with windows of `percent` of the run. At 100 % the residuals are the
    untrained model's."""

    def change(settings: Settings, cell: str) -> Settings:
        steps = max(1, round(settings.steps * percent / 100))
        return settings.changed(front=front, back=back, window_steps=steps)

    return change


def random_split(settings: Settings, cell: str) -> Settings:
    """Skip as many blocks as at 50 %, split between the two ends at random by cell, but never as
    chosen."""
    front, back = SPLITS[50][0]
    num = front + back
    drawn = random.Random(cell).choice([n for n in range(num + 1) if n != front])
    return settings.changed(front=drawn, back=num - drawn)


def middle_skipped(percent: int, **fields: object) -> Override:
    """Return an override for `baselines.HollowTrainer`: both ends are trained, the front end one
    block longer if they differ."""
    ends = NUM_BLOCKS - sum(SPLITS[percent][0])
    return skip_blocks(ends - ends // 2, ends // 2, **fields)


def with_small_patches(change: Override) -> Override:
    """Return the override with dynamic patches at 32 px added."""
    patches = override(patches="dynamic", s_min_px=32)
    return lambda settings, cell: patches(change(settings, cell), cell)
