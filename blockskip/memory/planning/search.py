"""Searches the best plan for a budget: the least loss of likeness, then the least time. No torch.

Options are tried in the order of their losses in presets/budgets.toml. Losses of skipped blocks and
of the training side are published; those of 8 and 4 bits and of shorter captions are our
assumptions. Measures that cost only time come before any loss: recomputed blocks, a middle that
leaves the GPU while windows and previews are made, fewer draws at a time, smaller windows, tiles.
The fastest of them by counted seconds (duration.py) are taken. A precision with a loss too small to
matter is preferred where it makes the run much shorter. Streaming the middle is the last resort,
since its weights then cross the bus in every step. Weights of 8 bits are also multiplied in 8 bits
wherever the device can.
Skipping nothing is considered only on request: it is as good, and slower (explanations.py reports
where it would fit).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from blockskip.core.presets import ModelRow, preview_threshold, quality_table
from blockskip.core.settings import MAX_GIB, Arithmetic, Middle, Precision, Settings
from blockskip.core.stages import TRAIN
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.request import (
    PlanRequest,
    exceeded_limits,
    is_mac,
    peak_gib,
    precisions,
)
from blockskip.memory.planning.requirements import (
    StageMemory,
    ram_for_weights,
    stage_memory,
)

# fields of the plan that an Option decides, besides the precision
_DECIDED = "front back patches s_min_px s_max_px text_tokens".split()


@dataclass(frozen=True)
class Option:
    """One way to train: settings with the span, side, precision and number of text tokens decided.

    loss: expected DINO likeness lost against plain LoRA at 512 px.
    """

    loss: float
    settings: Settings


@dataclass(frozen=True)
class Fit:
    """An option with all other fields decided too, the memory its stages need, and the counted
    seconds of a run on a common PC. slower: the fit with less loss that it was preferred to."""

    loss: float
    settings: Settings
    stages: dict[str, StageMemory]
    seconds: float
    slower: Fit | None = None


def best_plan(row: ModelRow, request: PlanRequest) -> Fit | None:
    """Return the best plan that fits, None if nothing does."""
    ways = options(row, request)
    fits = (fit_option(row, request, way, streamed=False) for way in ways)
    best = next((fit for fit in fits if fit), None)
    if best is not None:
        return _much_faster(row, request, best, ways) or best
    # Stream the option that needs the least memory unstreamed: little crosses the bus, and a larger
    # budget never loses likeness.
    ways.sort(key=lambda way: peak_gib(least_memory(row, way)))
    fits = (fit_option(row, request, way, streamed=True) for way in ways)
    return next((fit for fit in fits if fit), None)


def _much_faster(
    row: ModelRow, request: PlanRequest, best: Fit, ways: Sequence[Option]
) -> Fit | None:
    """Return the same plan in a precision that loses too little to matter and is much faster; None
    if there is none."""
    table = quality_table()["faster"]
    for way in ways:
        if not best.loss < way.loss <= best.loss + table["loss"]:
            continue
        if all(getattr(way.settings.plan, k) == getattr(best.settings.plan, k) for k in _DECIDED):
            fit = fit_option(row, request, way, streamed=False)
            if fit and fit.seconds <= table["share"] * best.seconds:
                return replace(fit, slower=best)
    return None


def options(row: ModelRow, request: PlanRequest) -> list[Option]:
    """Return all options that the request leaves open, least loss first, then least work."""
    table, asked, fixed = quality_table(), request.settings.plan, request.fixed
    spans = [(asked.front, asked.back)] if "front" in fixed else list(row.spans.values())
    all_sides = [round(times * row.s_min_px) for times in table["sides"]]
    largest = asked.s_max_px if "s_max_px" in fixed else max(all_sides)
    sides = [side for side in all_sides if side <= largest]
    if "s_min_px" in fixed or asked.patches == "full":
        sides = [asked.side_px]
    bits = [asked.precision] if "precision" in fixed else precisions(request.system)
    tokens = row.text_tokens
    texts = {tokens: 0.0, tokens // 2: table["loss"]["text_half"]}
    texts |= {tokens // 4: table["loss"]["text_quarter"]}
    if "text_tokens" in fixed:
        texts = {asked.text_tokens: texts.get(asked.text_tokens, 0.0)}
    ways = []
    for (front, back), side in itertools.product(spans, sides):
        patches, s_max_px = crop_sizes(row, request, side)
        likeness = expected_likeness(row, (front + back) / row.num_blocks, side)
        for precision, (text, shorter) in itertools.product(bits, texts.items()):
            loss = table["lora"] - likeness + table["loss"][precision] + shorter
            settings = request.settings.changed(
                front=front,
                back=back,
                patches=patches,
                s_min_px=side,
                s_max_px=s_max_px,
                precision=precision,
                arithmetic=_arithmetic(request, precision),
                text_tokens=text,
            )
            ways.append(Option(round(loss, 5), settings))
    return sorted(ways, key=_loss_and_work)


def _arithmetic(request: PlanRequest, precision: Precision) -> Arithmetic:
    """Return what multiplies weights of this precision: the quickest that it has."""
    if "arithmetic" in request.fixed:
        return request.settings.plan.arithmetic
    return "int8" if precision == "int8" else "weights"


def _loss_and_work(option: Option) -> tuple[float, int, int]:
    plan = option.settings.plan
    return option.loss, -plan.front - plan.back, plan.side_px


def crop_sizes(row: ModelRow, request: PlanRequest, side_px: int) -> tuple[str, int]:
    """Return (patch schedule, side of the largest crop) for training at `side_px`.

    The smallest crop has that side. The largest is twice as large, as in the published pairs 256 →
    512 px (FLUX) and 512 → 1024 px (SANA). Crops are shrunk before they are encoded, so larger
    crops take no GPU memory. Where no crop would be larger than `side_px`, the schedule is “full”.
    """
    asked = request.settings.plan
    if asked.patches == "full":
        return "full", side_px
    twice = min(row.native_px, side_px * row.s_max_px // row.s_min_px)
    largest = asked.s_max_px if "s_max_px" in request.fixed else twice
    return (asked.patches, largest) if largest > side_px else ("full", side_px)


def expected_likeness(row: ModelRow, ratio: float, side_px: int) -> float:
    """Return the published DINO likeness for a share of skipped blocks and a side, interpolated.

    The figures are FLUX's. For another model its smallest crop counts as 256 px, twice that as 512.
    """
    table = sorted((float(key), at) for key, at in quality_table()["likeness"].items())
    share = min(1.0, max(0.0, side_px / row.s_min_px - 1))
    points = [(x, at["256"] + share * (at["512"] - at["256"])) for x, at in table]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if ratio <= x1 + 0.015:  # 29 of 57 blocks count as the published 50 %
            return y0 + (y1 - y0) * min(1.0, max(0.0, (ratio - x0) / (x1 - x0)))
    return points[-1][1] - (ratio - points[-1][0])  # beyond, likeness “drops clearly” (paper)


def fit_option(row: ModelRow, request: PlanRequest, option: Option, streamed: bool) -> Fit | None:
    """Decide all fields that cost only time. Return the fastest fit, None if nothing fits."""
    found = []
    middles: tuple[Middle, ...] = ("streamed",) if streamed else ("stays", "leaves")
    for middle in middles:
        least = smallest_settings(row, option, middle)
        if not exceeded_limits(request, request.memory(row, least)):
            settings = _roomiest(row, request, least)
            seconds = run_seconds(row, settings, usual_rates())
            found.append(Fit(option.loss, settings, request.memory(row, settings), seconds))
            if not settings.plan.recomputed and settings.plan.window_on_card:
                break  # room would not make it faster
    return min(found, key=lambda fit: fit.seconds, default=None)


def _roomiest(row: ModelRow, request: PlanRequest, least: Settings) -> Settings:
    """Enlarge the fields of `least` one after the other, each as far as it fits."""
    asked = request.settings

    def first_fitting(settings: Settings, **values: Sequence) -> Settings:
        """Set the first of these values that fits; the last is known to."""
        rows = (dict(zip(values, each, strict=True)) for each in zip(*values.values(), strict=True))
        candidates = (settings.changed(**changes) for changes in rows)
        return next(tried for tried in candidates if _fits(row, request, tried))

    fresh = asked.fresh_steps(asked.plan.window_steps)
    windows = [max(1, fresh // 2**i) * asked.reuse for i in range(9)] + [asked.reuse]
    settings = first_fitting(least, window_steps=windows)
    settings = first_fitting(settings, micro_batch=(16, 8, 4, 2, 1))
    settings = first_fitting(settings, encode_batch=(8, 4, 2, 1))
    settings = first_fitting(settings, preview_tiled=(False, True))
    settings = _fastest_steps(row, request, settings)
    # all of a window on the GPU, or none: a window on the GPU leaves RAM to offloaded weights
    settings = first_fitting(settings, window_on_card=(settings.window_draws, 0))
    # the step cache of previews gives way to all of the weights, not to a part of them
    settings = _with_weights_in_ram(row, request, settings, or_none=True)
    cached = preview_threshold(asked.plan.preview_speed, asked.preview_steps) > 0
    settings = first_fitting(
        settings, preview_speed=(asked.plan.preview_speed if cached else "exact", "exact")
    )
    return _with_weights_in_ram(row, request, settings)


def _with_weights_in_ram(
    row: ModelRow, request: PlanRequest, settings: Settings, or_none: bool = False
) -> Settings:
    """Let RAM keep as many waiting weights as fit, in tenths of a GiB. or_none: all or none."""
    gib = request.ram_to_fill_gib
    kept = ram_for_weights(row, settings, gib, is_mac(request.system))
    if kept < MAX_GIB:
        kept = 0.0 if or_none else math.floor(10 * kept) / 10
    return settings.changed(ram_weights_gib=kept)


def _fastest_steps(row: ModelRow, request: PlanRequest, settings: Settings) -> Settings:
    """Choose draws at a time and recomputed blocks together: both take memory, either saves time.
    Of equally fast ones, more draws at a time are chosen."""
    draws, asked = settings.plan.draws_per_step, request.settings.plan
    batches = [asked.batch] if "batch" in request.fixed else divisors(draws)
    found = []
    for batch in batches:
        tried = settings.changed(batch=batch, accumulation=draws // batch)
        if _fits(row, request, tried):
            found.append(_fewest_recomputed(row, request, tried))
    return min(found, key=lambda each: round(run_seconds(row, each, usual_rates())))


def _fewest_recomputed(row: ModelRow, request: PlanRequest, settings: Settings) -> Settings:
    """Return the settings with the fewest recomputed blocks that fit; these settings fit."""
    if settings.plan.middle == "streamed":
        return settings

    def fits(num: int) -> bool:
        tried = settings.changed(recomputed=num)
        return not exceeded_limits(request, request.memory(row, tried, [TRAIN]))

    fewest = bisect_left(range(settings.plan.recomputed), True, key=fits)
    return settings.changed(recomputed=fewest)


def smallest_settings(row: ModelRow, option: Option, middle: Middle) -> Settings:
    """Return an option's settings with the least need of GPU memory and RAM."""
    plan = option.settings.plan
    trained = row.num_blocks - plan.front - plan.back
    return option.settings.changed(
        # the last block's activations would be computed again at once, when the others are gone
        recomputed=trained - (middle != "streamed"),
        middle=middle,
        window_steps=option.settings.reuse,  # a window serves the draws of one step
        window_on_card=0,
        micro_batch=1,
        encode_batch=1,
        preview_batch=1,  # the value that requirements.py assumes
        preview_tiled=True,
        preview_speed="exact",
        ram_weights_gib=0,
    )


def least_memory(row: ModelRow, option: Option, streamed: bool = False) -> dict[str, StageMemory]:
    """Return the stages' memory under `smallest_settings`."""
    middle: Middle = "streamed" if streamed else "leaves"
    return stage_memory(row, smallest_settings(row, option, middle))


def divisors(num: int) -> list[int]:
    """Return the divisors of a number, largest first: the batches that divide a step evenly."""
    return [part for part in range(num, 0, -1) if num % part == 0]


def _fits(row: ModelRow, request: PlanRequest, settings: Settings) -> bool:
    return not exceeded_limits(request, request.memory(row, settings))
