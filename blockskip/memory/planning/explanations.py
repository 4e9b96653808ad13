"""Builds the reasons for a plan, as data; wording.py has the text.

The first reason is a summary, the others are details. Every figure states its source: published (by
way of notes), assumed by us, or counted from shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

from blockskip.core.presets import (
    ModelRow,
    key_steps,
    model_row,
    preview_threshold,
    quality_table,
    reserve_table,
)
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.planning.alternatives import (
    Limits,
    better_options,
    explain_option,
    skip_nothing,
)
from blockskip.memory.planning.duration import sampling_passes
from blockskip.memory.planning.model_stats import block_multiply_adds
from blockskip.memory.planning.preset_settings import on_trained_model
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.request import PlanRequest, totals
from blockskip.memory.planning.requirements import SPARE_RAM_GIB, StageMemory
from blockskip.memory.planning.run_sizes import (
    kept_bytes,
    middle_bytes,
    recomputed_blocks,
    waiting_bytes,
)
from blockskip.memory.planning.search import Fit, expected_likeness


def reasons(row: ModelRow, request: PlanRequest, fit: Fit) -> list[Reason]:
    """Return the reasons for the plan, the summary first."""
    settings = fit.settings
    asked = request.settings
    ways = better_options(row, request, fit)
    parts: list[Reason | None] = [
        _in_short(request, fit, list(ways)),
        _usable(request),
        _skipping(row, settings),
    ]
    parts += [_pictures(row, request, settings), _precision(row, settings), _faster(row, fit)]
    parts += [explain_option(row, request, fit, way) for way in ways.values()]
    parts += [skip_nothing(row, request, fit), *_prices(row, settings)]
    parts += [_together(settings), _waiting(row, request, settings)]
    parts += [_ram_short(request, fit), _window(settings)]
    parts += sampling(row, asked, settings.plan.preview_speed != "exact")
    return [reason for reason in parts if reason]


def commit_short(stages: Mapping[str, StageMemory], free_gib: float) -> Reason | None:
    """Return that RAM and page file are too small on Windows, None if they are not.

    Windows sets memory aside for what the card holds too. free_gib: what it can still promise.
    """
    context = reserve_table()["context"]
    needs = max(need.ram_gib + need.vram_gib + context for need in stages.values())
    if needs <= free_gib:
        return None
    values: Values = {"needs_gib": needs, "free_gib": free_gib, "more_gib": needs - free_gib}
    return Reason("commit_short", values)


def sampling(row: ModelRow, asked: Settings, room: bool = True) -> list[Reason]:
    """Return how sample pictures are made: on which model, with which step cache. room: whether RAM
    has room for one."""
    if asked.preview_model:
        own = on_trained_model(asked)
        values: Values = {
            "title": model_row(asked.preview_model).title,
            "passes": sampling_passes(row, asked),
            "own": sampling_passes(row, own),
        }
        return [Reason("samples_sibling", values)]
    model, speed, steps = row.name, asked.plan.preview_speed, asked.preview_steps
    change = preview_threshold(speed, steps)
    if speed == "exact":
        return []
    if not change:
        return [Reason("samples_few_steps", {"steps": steps})]
    if not room:
        return [Reason("samples_no_ram")]
    if keys := key_steps(model, speed, steps):
        values = {"speed": speed, "computed": len(keys), "steps": steps}
        return [Reason("samples_key_steps", values)]
    return [Reason("samples_first_block", {"speed": speed, "percent": round(100 * change)})]


def _in_short(request: PlanRequest, fit: Fit, failed: list[Limits]) -> Reason:
    """Summarise for end users: does it fit, what limits it, the expected result.

    failed: the limits that each better option exceeds.
    """
    fits = Reason("fits_card", {"budget_gib": request.budget_gib})
    if request.free_gib < request.budget_gib:
        fits = Reason("fits_free", {"free_gib": request.free_gib})
    plan = fit.settings.plan
    if failed:
        unique = dict.fromkeys(name for names in failed for name in names)
        limit = Reason("limited", {"limits": tuple(Reason(f"limit_{name}") for name in unique)})
    elif plan.recomputed or plan.middle != "stays" or plan.accumulation > 1:
        limit = Reason("limits_speed")
    else:
        limit = Reason("limits_nothing")
    results = quality_table()["results"]
    result = next(each["name"] for each in results if fit.loss <= each["up_to"])
    return Reason("in_short", {"fits": fits, "limit": limit, "result": Reason(f"result_{result}")})


def _usable(request: PlanRequest) -> Reason:
    available = Reason("usable_budget", {"budget_gib": request.budget_gib})
    if request.free_gib < request.budget_gib:
        available = Reason(
            "usable_free", {"budget_gib": request.budget_gib, "free_gib": request.free_gib}
        )
    sizes = {"usable_gib": request.usable_gib, "reserve_gib": request.reserve_gib}
    return Reason("usable", {**sizes, "whole": available})


def _skipping(row: ModelRow, settings: Settings) -> Reason:
    plan = settings.plan
    ratio = (plan.front + plan.back) / row.num_blocks
    sides = row.s_min_px, 2 * row.s_min_px
    plain = not ratio and plan.side_px == sides[1]
    published = (plan.front, plan.back) in row.spans.values() and plan.side_px in sides
    source = "whose_published" if published or plain else "whose_between"
    if row.provenance.startswith("unverified"):
        source = "whose_other_model"
    return Reason(
        "skips_none" if plain else "skips",
        {
            "front": plan.front,
            "back": plan.back,
            "num_blocks": row.num_blocks,
            "side_px": plan.side_px,
            "whose": Reason(source),
            "likeness": expected_likeness(row, ratio, plan.side_px),
            "reference": quality_table()["lora"],
        },
    )


def _pictures(row: ModelRow, request: PlanRequest, settings: Settings) -> Reason:
    """Describe the crops, their published effect and their cost."""
    plan = settings.plan
    side, schedule, largest = plan.side_px, plan.patches, plan.s_max_px
    enlarged = cost = None
    if schedule != "full" and largest > row.s_max_px:
        enlarged = Reason("pictures_enlarged", {"largest_px": largest})
    if side > row.s_min_px:
        times = block_multiply_adds(row, side, plan.text_tokens) / block_multiply_adds(
            row, row.s_min_px, plan.text_tokens
        )
        larger = None if schedule == "full" else Reason("pictures_cost_crops")
        values: Values = {
            "side_px": side,
            "least_px": row.s_min_px,
            "times": times,
            "crops": larger,
        }
        cost = Reason("pictures_cost", values)
    crops = _crops(row, schedule, side, largest)
    return Reason("pictures", {"seen": crops, "enlarged": enlarged, "cost": cost})


def _crops(row: ModelRow, schedule: str, side: int, largest: int) -> Reason:
    """Describe crops or whole pictures, and their published likeness."""
    table = quality_table()["patches"]
    values: Values = {"side_px": side, "largest_px": largest, "schedule": schedule}
    if schedule == "dynamic":
        gain, known = table["dynamic"] - table["resize"], None
        if side != 256:
            kind = "close_published_whole" if side == 512 else "close_unpublished"
            known = Reason(kind, {"side_px": side})
        return Reason("pictures_close", values | {"gain": gain, "known": known})
    values["loss"] = table["dynamic"] - table["resize" if schedule == "full" else schedule]
    if schedule != "full":
        return Reason("pictures_asked", values)
    return Reason("pictures_whole_published" if side == row.s_min_px else "pictures_whole", values)


def _precision(row: ModelRow, settings: Settings) -> Reason:
    precision = settings.plan.precision
    size = middle_bytes(row, settings) / GIB
    if precision == "full":
        return Reason("unquantised", {"size_gib": size})
    return Reason(
        "quantised",
        {
            "bits": Reason(f"bits_{precision}"),
            "size_gib": size,
            "full_gib": middle_bytes(row, settings.changed(precision="full")) / GIB,
            "loss": quality_table()["loss"][precision],
            "computed": Reason("int8_products") if settings.plan.int8_products else None,
        },
    )


def _faster(row: ModelRow, fit: Fit) -> Reason | None:
    """Describe the more precise weights that would fit, but take longer; None if there are none."""
    if fit.slower is None:
        return None
    count = recomputed_blocks(row, fit.slower.settings)
    values: Values = {
        "bits": Reason(f"bits_{fit.slower.settings.plan.precision}"),
        "twice": Reason("faster_twice", {"count": count}) if count else None,
        "percent": round(100 * (fit.slower.seconds / fit.seconds - 1)),
    }
    return Reason("faster", values)


def _prices(row: ModelRow, settings: Settings) -> list[Reason]:
    plan, prices = settings.plan, []
    if plan.number_type == "float16":
        prices.append(Reason("float16"))
    if again := recomputed_blocks(row, settings):
        trained = row.num_blocks - plan.front - plan.back
        longer = round(100 * again / (2 * trained))
        counts: Values = {"count": again, "trained": trained, "percent": longer}
        prices.append(Reason("recomputed", counts))
    if plan.middle in ("leaves", "streamed"):
        prices.append(Reason(plan.middle))
    if plan.text_tokens < row.text_tokens:
        tokens = {"text_tokens": plan.text_tokens, "full_tokens": row.text_tokens}
        prices.append(Reason("captions", tokens))
    return prices


def _together(settings: Settings) -> Reason | None:
    """Describe how many of a step's draws pass the trained blocks at once."""
    plan = settings.plan
    if plan.batch == 1:
        return None
    return Reason(
        "together",
        {
            "batch": plan.batch,
            "draws": plan.draws_per_step,
            "unpacked": Reason("together_unpacked") if plan.precision != "full" else None,
            "crossing": Reason("together_crossing") if plan.middle == "streamed" else None,
        },
    )


def _waiting(row: ModelRow, request: PlanRequest, settings: Settings) -> Reason | None:
    size, kept = waiting_bytes(row, settings) / GIB, kept_bytes(row, settings) / GIB
    if not size:
        return None
    if kept == size:
        return Reason("waits_in_ram", {"size_gib": size})
    room = max(0.0, request.ram_to_fill_gib)
    values: Values = {"size_gib": size, "ram_gib": room, "now": None}
    if room < request.usable_ram_gib:
        free: Values = {"free_gib": request.free_ram_gib, "spare_gib": SPARE_RAM_GIB}
        values["now"] = Reason("ram_now", free)
    if not kept:
        return Reason("waits_in_file", values)
    return Reason("waits_partly", values | {"kept_gib": kept})


def _ram_short(request: PlanRequest, fit: Fit) -> Reason | None:
    """Return that other programs hold RAM which the plan needs, None if they do not."""
    needs = totals(request, fit.stages)["ram"]
    if needs <= request.free_ram_gib:
        return None
    return Reason("ram_short", {"needs_gib": needs, "free_gib": request.free_ram_gib})


def _window(settings: Settings) -> Reason:
    """Describe how often weights cross the bus; `_prices` covers the middle's."""
    plan, steps, reuse = settings.plan, settings.plan.window_steps, settings.reuse
    weights = "off_card" if plan.middle == "stays" else "skipped"
    crossing = None
    if plan.middle == "stays" or plan.front + plan.back:
        kind = "window_one_step" if steps == 1 else "window_steps"
        crossing = Reason(kind, {"which": Reason(f"weights_{weights}"), "steps": steps})
    return Reason(
        "window",
        {
            "draws": settings.window_draws,
            "used": Reason("window_used", {"reuse": reuse}) if reuse > 1 else None,
            "crossing": crossing,
        },
    )
