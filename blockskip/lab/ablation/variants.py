"""A row of the ablation's tables: how its settings differ from the defaults, and who trains it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from blockskip.core.settings import Settings
from blockskip.training.trainer import Trainer

Override = Callable[[Settings, str], Settings]  # settings, name of the cell → settings
NUM_BLOCKS = 18  # of the demo model
WINDOWS = (2, 5, 10, 20, 50, 100)  # percent of the run that one window serves; 100: computed once
# two splits of what each ratio skips: the preset's, and one with more at the back
SPLITS = {30: ((4, 1), (2, 3)), 40: ((6, 1), (4, 3)), 50: ((6, 3), (4, 5))}
SANA_SPANS = {30: (4, 0), 40: (4, 1), 50: (5, 1)}  # of the demo SANA, the preset's


@dataclass(frozen=True)
class Variant:
    """key: in files. baseline: the row it is compared with, cell by cell. framed: every photo has
    the proposed box around the pet. model: of presets/models.toml."""

    key: str
    title: str
    override: Override
    baseline: str = "lora"
    trainer: type[Trainer] | None = Trainer  # None: nothing is trained
    framed: bool = False
    model: str = "demo"


@dataclass(frozen=True)
class Table:
    """for_tuning: whether its subjects are those that settings are chosen on, not those reported."""

    key: str
    title: str
    variants: tuple[Variant, ...]
    subjects: int
    seeds: int
    for_tuning: bool = False


def override(**fields: object) -> Override:
    """A change of fields of Settings, whatever the cell."""
    return lambda settings, cell: settings.changed(**fields)


def skip_blocks(front: int, back: int, **fields: object) -> Override:
    """So many blocks skipped at the front and at the back."""
    return override(front=front, back=back, **fields)


def with_window(front: int, back: int, percent: int) -> Override:
    """One window serves so much of the run; all of it: residuals of the untrained model."""

    def change(settings: Settings, cell: str) -> Settings:
        steps = max(1, round(settings.steps * percent / 100))
        return settings.changed(front=front, back=back, window_steps=steps)

    return change


def random_split(settings: Settings, cell: str) -> Settings:
    """As many blocks as at 50 % skipped, shared out between the two ends at random, another way in
    every cell; never as it was chosen."""
    front, back = SPLITS[50][0]
    num = front + back
    drawn = random.Random(cell).choice([n for n in range(num + 1) if n != front])
    return settings.changed(front=drawn, back=num - drawn)


def middle_skipped(percent: int, **fields: object) -> Override:
    """The two ends trained, the earlier one a block longer; `baselines.HollowTrainer`."""
    ends = NUM_BLOCKS - sum(SPLITS[percent][0])
    return skip_blocks(ends - ends // 2, ends // 2, **fields)


def with_small_patches(change: Override) -> Override:
    """A change, and dynamic patches at 32 px."""
    patches = override(patches="dynamic", s_min_px=32)
    return lambda settings, cell: patches(change(settings, cell), cell)
