"""Speed of previews against what it costs: every way of sampling on the same prompts and noise, in turn.

Fidelity is to the exact sampler's pictures: the mean distance of pixels, and on the demo model what
its judge sees of what the prompts ask. Speed is in operations, counted, and in seconds, in parts of
the exact sampler's, one batch after the other in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from diffusers import FirstBlockCacheConfig
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from blockskip import ddit
from blockskip.lab.distil import captions
from blockskip.lab.opened import Opened
from blockskip.preview import TOGETHER


@dataclass(frozen=True)
class Way:
    """How pictures are sampled. taus: of the patch schedule by factor, (): no larger patches; rho: see
    ddit.choose. fixed: factors of all steps instead. threshold: of the step cache, 0: none."""

    name: str
    taus: tuple[tuple[int, float], ...] = ()
    rho: float = ddit.RHO
    fixed: tuple[int, ...] = ()
    threshold: float = 0.0


@dataclass
class Found:
    """What a way made. factors: of every step of every batch. flops: of the first batch."""

    images: list[Image.Image] = field(default_factory=list)
    seconds: float = 0.0
    flops: int = 0
    factors: list[list[int]] = field(default_factory=list)


EXACT = Way("exact")


class Sampler(Opened):
    """A model with its adapters, and prompts to sample. Raises UserError when it is not there."""

    def __init__(self, model: str, adapters: Path | None, prompts: int, budget_gib: float) -> None:
        super().__init__(model, budget_gib)
        self.adapters = ddit.load(adapters, self.model, self.kind)[0] if adapters else {}
        self.wanted = []  # what the demo's judge is asked about
        if model == "demo":
            from blockskip.lab.demo_world.captions import fresh_captions

            self.wanted = fresh_captions(prompts, seed=7)
        self.prompts = [text for text, *_ in self.wanted] or captions(self.row, prompts, seed=1)
        self.text = self.read(self.prompts)

    def go(self, way: Way, rows: range, steps: int) -> tuple[list[Image.Image], list[int]]:
        """Pictures of the prompts `rows`, and the factors of their steps."""
        dynamic = None
        if way.taus or way.fixed:
            taus = dict(way.taus)
            dynamic = ddit.Dynamic(self.model, self.kind, self.adapters, taus, way.rho)
            dynamic.fixed = way.fixed
        cache = FirstBlockCacheConfig(way.threshold) if way.threshold else None
        seeds = [100_003 + row for row in rows]
        images = self.paint(self.text, rows, seeds, steps, dynamic=dynamic, cache=cache)
        return images, dynamic.factors if dynamic else [1] * steps


def measure(
    sampler: Sampler, ways: Sequence[Way], steps: int, say: Callable[[str], None]
) -> dict[str, Found]:
    """All ways, batch by batch in turn, so that whatever else the machine does hits all alike."""
    found = {way.name: Found() for way in (EXACT, *ways)}
    for start in range(0, len(sampler.prompts), TOGETHER):
        rows = range(start, min(start + TOGETHER, len(sampler.prompts)))
        for way in (EXACT, *ways):
            one, began = found[way.name], time.perf_counter()
            images, factors = sampler.go(way, rows, steps)
            one.seconds += time.perf_counter() - began
            one.images += images
            one.factors.append(factors)
            if not start:
                with FlopCounterMode(display=False) as counter:
                    sampler.go(way, rows, steps)
                one.flops = counter.get_total_flops()
        say(f"{steps} steps: {rows.stop}/{len(sampler.prompts)} pictures")
    return found


def report(sampler: Sampler, found: dict[str, Found]) -> list[dict]:
    """A line a way: how much quicker than exact, and how far from it. distance: mean absolute
    difference of pixels, of 255. obeyed: by the demo's judge."""
    exact = found[EXACT.name]
    whole = [np.asarray(image, np.float32) for image in exact.images]
    lines = []
    for name, one in found.items():
        far = [
            float(np.abs(np.asarray(image, np.float32) - right).mean())
            for image, right in zip(one.images, whole, strict=True)
        ]
        sizes = [factor for factors in one.factors for factor in factors]
        line = {
            "way": name,
            "quicker_flops": round(exact.flops / one.flops, 3),
            "quicker_seconds": round(exact.seconds / one.seconds, 3),
            "seconds_per_image": round(one.seconds / len(one.images), 4),
            "distance": round(float(np.mean(far)), 3),
            "steps_by_size": {size: sizes.count(size) for size in (1, 2, 4)},
        }
        if sampler.wanted:
            from blockskip.lab.demo_world.judge import load_judge
            from blockskip.lab.evaluate import obeyed

            line["obeyed"] = obeyed(load_judge(), one.images, sampler.wanted)
        lines.append(line)
    return lines
