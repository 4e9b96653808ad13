"""Budget → plan: of all that fits, what loses the least likeness, then what takes the least time.

Losses are tried in the order of presets/budgets.toml: published figures for how many blocks are
skipped and the side trained at, assumptions of ours for 8 and 4 bits and shorter captions. Before
anything is lost, all that costs only time is tried: checkpointing, the middle leaving the card
while windows and previews are made, fewer draws at a time, smaller windows, tiles. Streaming the
middle, which crosses the bus in every step, is the last resort. Skipping nothing is no candidate
unless it is asked for: it is as good, and slower (explanations.py says where it would fit). No torch.
"""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockskip.core.presets import ModelRow, preview_threshold, quality_table, reserve_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.requirements import StageMemory, stage_memory

RAM_FOR_SYSTEM = 0.25  # of the PC's RAM stays the system's: 12 of 16 GiB are planned with


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What is asked of the planner.

    settings: those of the user and the presets. fixed: names of the plan's fields that the user
    decided (“front” stands for “back” as well); the others are the planner's. disk_gib: free on the
    disk. free_gib: what the card has free now (inf: not known). system: Windows, Linux, … ("": this
    one).
    """

    settings: Settings
    fixed: frozenset[str] = frozenset()
    disk_gib: float = math.inf
    free_gib: float = math.inf
    system: str = ""

    def with_fixed(self, **fields: Any) -> PlanRequest:
        """The same with these fields of the plan decided."""
        return replace(
            self, settings=self.settings.changed(**fields), fixed=self.fixed | fields.keys()
        )

    @property
    def budget_gib(self) -> float:
        """Graphics memory that a run may use in all."""
        return self.settings.budget_gib

    @property
    def reserve_gib(self) -> float:
        """What is never planned with: the desktop's share, CUDA's context, the allocator's gaps."""
        table, desktop = reserve_table(), desktop_gib(self.budget_gib, self.system)
        gaps = table["allocator"] * min(self.budget_gib, self.free_gib)
        return desktop + table["context"] + gaps

    @property
    def usable_gib(self) -> float:
        """What stages may take of the card, in GiB: budget or free memory, less the reserve."""
        return min(self.budget_gib, self.free_gib) - self.reserve_gib

    @property
    def usable_ram_gib(self) -> float:
        """What a run may take of RAM, in GiB; the rest is the system's."""
        return self.settings.ram_gib * (1 - RAM_FOR_SYSTEM)


@dataclass(frozen=True)
class Option:
    """One way to train: what it loses of DINO likeness against plain LoRA at 512 px, and settings
    that say what is skipped, at which side, in which precision, with how many text tokens."""

    loss: float
    settings: Settings


@dataclass(frozen=True)
class Fit:
    """An option with everything else settled as well, and what its stages need."""

    loss: float
    settings: Settings
    stages: dict[str, StageMemory]


def desktop_gib(budget_gib: float, system: str = "") -> float:
    """Graphics memory left to the desktop. system: Windows, Linux, … ("": this one)."""
    table = reserve_table()
    share = "windows" if (system or platform.system()) == "Windows" else "other"
    return table[share + "_big" if budget_gib >= table["big_from"] else share]


def best_plan(row: ModelRow, request: PlanRequest) -> Fit | None:
    """The best that fits, None when nothing does."""
    ways = options(row, request)
    found = (fit_option(row, request, way, streamed=False) for way in ways)
    fit = next((fit for fit in found if fit), None)
    if fit is None:
        # Streamed is what the smallest card that need not stream would train: little crosses the
        # bus, and nobody loses likeness by allowing more memory.
        ways.sort(key=lambda way: peak_gib(least_memory(row, way)))
        found = (fit_option(row, request, way, streamed=True) for way in ways)
        fit = next((fit for fit in found if fit), None)
    return fit


def options(row: ModelRow, request: PlanRequest) -> list[Option]:
    """All ways that the request leaves open, least loss first, then least work."""
    table, asked, fixed = quality_table(), request.settings.plan, request.fixed
    spans = [(asked.front, asked.back)] if "front" in fixed else list(row.spans.values())
    every = [round(times * row.s_min_px) for times in table["sides"]]
    largest = asked.s_max_px if "s_max_px" in fixed else max(every)
    sides = [side for side in every if side <= largest]
    if "s_min_px" in fixed or asked.patches == "full":
        sides = [asked.side_px]
    precisions = [asked.precision] if "precision" in fixed else ["full", "int8", "nf4"]
    whole = row.text_tokens
    texts = {whole: 0.0, whole // 2: table["loss"]["text_half"]}
    texts |= {whole // 4: table["loss"]["text_quarter"]}
    if "text_tokens" in fixed:
        texts = {asked.text_tokens: texts.get(asked.text_tokens, 0.0)}
    found = []
    for (front, back), side in itertools.product(spans, sides):
        patches, s_max_px = crop_sizes(row, request, side)
        likeness = expected_likeness(row, (front + back) / row.num_blocks, side)
        for precision, (text, shorter) in itertools.product(precisions, texts.items()):
            loss = table["lora"] - likeness + table["loss"][precision] + shorter
            settings = request.settings.changed(
                front=front,
                back=back,
                patches=patches,
                s_min_px=side,
                s_max_px=s_max_px,
                precision=precision,
                text_tokens=text,
            )
            found.append(Option(round(loss, 5), settings))
    return sorted(found, key=_loss_and_work)


def _loss_and_work(option: Option) -> tuple[float, int, int]:
    plan = option.settings.plan
    return option.loss, -plan.front - plan.back, plan.side_px


def crop_sizes(row: ModelRow, request: PlanRequest, side_px: int) -> tuple[str, int]:
    """(patch schedule, side of the largest crop) when training at `side_px`; the smallest crop has
    that side.

    Published pairs are 256 → 512 px (FLUX) and 512 → 1024 px (SANA): the largest crop is twice the
    side trained at. It is shrunk before it is encoded, so growing it takes no graphics memory.
    Where no crop would be larger, whole pictures are meant, and are called so.
    """
    asked = request.settings.plan
    if asked.patches == "full":
        return "full", side_px
    twice = min(row.native_px, side_px * row.s_max_px // row.s_min_px)
    largest = asked.s_max_px if "s_max_px" in request.fixed else twice
    return (asked.patches, largest) if largest > side_px else ("full", side_px)


def expected_likeness(row: ModelRow, ratio: float, side_px: int) -> float:
    """Published DINO for that share of skipped blocks and side, straight lines in between. Of FLUX:
    for another model its smallest crop stands for 256 px, twice that for 512."""
    table = sorted((float(key), at) for key, at in quality_table()["likeness"].items())
    share = min(1.0, max(0.0, side_px / row.s_min_px - 1))
    points = [(x, at["256"] + share * (at["512"] - at["256"])) for x, at in table]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if ratio <= x1 + 0.015:  # 29 of 57 blocks are the published 50 %
            return y0 + (y1 - y0) * min(1.0, max(0.0, (ratio - x0) / (x1 - x0)))
    return points[-1][1] - (ratio - points[-1][0])  # beyond: “drops clearly” (paper)


def fit_option(row: ModelRow, request: PlanRequest, option: Option, streamed: bool) -> Fit | None:
    """Everything that costs only time, the quickest that fits; None when nothing does."""
    if exceeded_limits(request, least_memory(row, option, streamed)):
        return None
    for checkpointing, middle in _time_costs(streamed):
        least = smallest_settings(option, checkpointing, middle)
        if exceeded_limits(request, stage_memory(row, least)):
            continue
        settings = _roomiest(row, request, least)
        return Fit(option.loss, settings, stage_memory(row, settings))
    return None


def _roomiest(row: ModelRow, request: PlanRequest, least: Settings) -> Settings:
    """`least` with each field as large as there is room for, one after the other."""
    asked = request.settings

    def first_fitting(settings: Settings, **values: Sequence) -> Settings:
        """With the first of these values that fits; the last one is known to."""
        rows = (dict(zip(values, each, strict=True)) for each in zip(*values.values(), strict=True))
        tries = (settings.changed(**changes) for changes in rows)
        return next(
            tried for tried in tries if not exceeded_limits(request, stage_memory(row, tried))
        )

    fresh = asked.fresh_steps(asked.plan.window_steps)
    windows = [max(1, fresh // 2**i) * asked.reuse for i in range(9)] + [asked.reuse]
    draws = asked.plan.draws_per_step
    batches = [asked.plan.batch] if "batch" in request.fixed else divisors(draws)
    settings = first_fitting(least, window_steps=windows)
    settings = first_fitting(settings, micro_batch=(16, 8, 4, 2, 1))
    settings = first_fitting(settings, encode_batch=(8, 4, 2, 1))
    settings = first_fitting(settings, preview_tiled=(False, True))
    settings = first_fitting(settings, batch=batches, accumulation=[draws // b for b in batches])
    # all of a window on the card, or none; what is there leaves RAM to weights that wait
    settings = first_fitting(settings, window_on_card=(settings.window_draws, 0))
    settings = first_fitting(settings, offload=("pinned", "mapped"))
    cached = preview_threshold(asked.plan.preview_speed, asked.preview_steps) > 0
    return first_fitting(
        settings, preview_speed=(asked.plan.preview_speed if cached else "exact", "exact")
    )


def smallest_settings(option: Option, checkpointing: bool, middle: str) -> Settings:
    """The way to train an option that needs the least of card and RAM."""
    return option.settings.changed(
        checkpointing=checkpointing,
        middle=middle,
        window_steps=option.settings.reuse,  # a window serves the draws of one step
        window_on_card=0,
        micro_batch=1,
        encode_batch=1,
        preview_batch=1,  # what the tables count
        preview_tiled=True,
        preview_speed="exact",
        offload="mapped",
    )


def least_memory(row: ModelRow, option: Option, streamed: bool = False) -> dict[str, StageMemory]:
    """What the stages need when everything is done to need little."""
    return stage_memory(row, smallest_settings(option, True, "streamed" if streamed else "leaves"))


def _time_costs(streamed: bool) -> list[tuple[bool, str]]:
    """(checkpointing, middle), the quickest first; only checkpointed steps stream."""
    if streamed:
        return [(True, "streamed")]
    return [(c, middle) for c in (False, True) for middle in ("stays", "leaves")]


def divisors(num: int) -> list[int]:
    """Of a number, the largest first: parts of a step that are all of one size."""
    return [part for part in range(num, 0, -1) if num % part == 0]


def peak_gib(needs: dict[str, StageMemory]) -> float:
    """The most graphics memory any stage takes."""
    return max(need.vram_gib for need in needs.values())


def totals(needs: dict[str, StageMemory]) -> dict[str, float]:
    """GiB of graphics memory and RAM at the worst stage, of the disk in all."""
    return {
        "card": peak_gib(needs),
        "ram": max(need.ram_gib for need in needs.values()),
        "disk": sum(need.disk_gib for need in needs.values()),
    }


def limits(request: PlanRequest) -> dict[str, float]:
    """GiB that can be planned with, under the same names."""
    return {"card": request.usable_gib, "ram": request.usable_ram_gib, "disk": request.disk_gib}


def exceeded_limits(request: PlanRequest, needs: dict[str, StageMemory]) -> list[str]:
    """Which of card, ram, disk are too small."""
    most = limits(request)
    return [name for name, gib in totals(needs).items() if gib > most[name]]
