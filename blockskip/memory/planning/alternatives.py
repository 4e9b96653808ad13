"""Finds better options than a plan, the limits they exceed, and the benefit of more memory."""

from __future__ import annotations

from dataclasses import replace

from blockskip.core.presets import ModelRow, quality_table
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.request import PlanRequest, exceeded_limits, limits, totals
from blockskip.memory.planning.run_sizes import block_passes, middle_bytes
from blockskip.memory.planning.search import (
    Fit,
    Option,
    best_plan,
    least_memory,
    options,
    smallest_settings,
)

NOTED_PERCENT = 5  # of a run's time: smaller changes are not told


def one_more_gib(row: ModelRow, request: PlanRequest, fit: Fit) -> Reason:
    """Return the benefit of one more GiB, or of the fewest GiB that change something."""
    for extra_gib in (1, 2, 4, 8, 16):
        then = best_plan(row, _wider(request, extra_gib))
        change = _change(row, fit, then) if then else None
        if change:
            kind = "more_next" if extra_gib == 1 else "more_later"
            return Reason(kind, {"more_gib": extra_gib, "change": change})
    return Reason("more_nothing", {"room": _room_for_all(row, request, fit)})


def when_freed(row: ModelRow, request: PlanRequest, fit: Fit, gib: float) -> Reason | None:
    """Return what the plan would gain if ComfyUI freed that much GPU memory; None if it has none."""
    if gib <= 0:
        return None
    then = best_plan(row, replace(request, free_gib=request.free_gib + gib))
    change = _change(row, fit, then) if then else None
    kind = "freed" if change else "freed_nothing"
    return Reason(kind, {"size_gib": gib, "change": change})


Limits = tuple[str, ...]  # names among card, ram, disk


def better_options(row: ModelRow, request: PlanRequest, fit: Fit) -> dict[Limits, Option]:
    """Return the best options with a smaller loss than `fit`, by the limits they exceed unstreamed.
    One that fits and was not chosen since it takes longer is not among them.

    Options that exceed a single limit are preferred, since raising it would suffice. If there are
    none, the best other option is returned.
    """
    best: dict[Limits, Option] = {}
    for way in options(row, request):
        if way.loss < (fit.slower or fit).loss:
            best.setdefault(tuple(exceeded_limits(request, least_memory(row, way))), way)
    single: dict[Limits, Option] = {names: way for names, way in best.items() if len(names) == 1}
    return single or dict(list(best.items())[:1])


def explain_option(row: ModelRow, request: PlanRequest, fit: Fit, way: Option) -> Reason:
    """Describe a better option and the limits it exceeds."""
    least = least_memory(row, way)
    needs, available = totals(request, least), limits(request)
    lacks = []
    for name in exceeded_limits(request, least):
        sizes = {"needs_gib": needs[name], "there_gib": available[name]}
        lacks.append(Reason("better_lacks", sizes | {"limit": Reason(f"limit_{name}")}))
    streamed = None
    if not exceeded_limits(request, least_memory(row, way, streamed=True)):
        size = middle_bytes(row, smallest_settings(row, way, "streamed")) / GIB
        current = middle_bytes(row, fit.settings) / GIB
        kind = (
            "better_streams_more"
            if fit.settings.plan.middle == "streamed"
            else "better_would_stream"
        )
        streamed = Reason(kind, {"size_gib": size, "mine_gib": current})
    values: Values = {"way": _way(way.settings, row), "lacks": tuple(lacks), "streamed": streamed}
    return Reason("better", values)


def skip_nothing(row: ModelRow, request: PlanRequest, fit: Fit) -> Reason | None:
    """Describe the gain and cost of skipping nothing, if that would fit unstreamed and lose less.

    None otherwise, or if the user decided the span.
    """
    other = (
        best_plan(row, request.with_fixed(front=0, back=0))
        if "front" not in request.fixed
        else None
    )
    if other is None or other.settings.plan.middle == "streamed":
        return None
    if other.loss >= fit.loss:  # it would take fewer bits or smaller crops
        return None
    fewer = block_passes(row, fit.settings) / block_passes(row, other.settings)
    return Reason(
        "unskipped",
        {
            "way": _way(other.settings, row),
            "gain": _difference(fit.loss - other.loss),
            "percent": round(100 * (1 - fewer)),
        },
    )


def _wider(request: PlanRequest, extra_gib: float) -> PlanRequest:
    return replace(request, more_gib=extra_gib, free_gib=request.free_gib + extra_gib)


def _change(row: ModelRow, now: Fit, then: Fit) -> Reason | None:
    percent = round(100 * (1 - then.seconds / now.seconds))
    if then.loss < now.loss:
        likeness = round(now.loss - then.loss, 4)
        ways = {"now": _way(now.settings, row), "then": _way(then.settings, row)}
        shorter = then.settings.plan.text_tokens < now.settings.plan.text_tokens  # captions
        kind = "in_less_time" if percent > 0 else "in_more_time"
        time = Reason(kind, {"percent": abs(percent)}) if abs(percent) >= NOTED_PERCENT else None
        told: Values = {"shorter": shorter, "likeness": likeness, "time": time}
        return Reason("gives_likeness", {**ways, **told})
    before, after = now.settings.plan, then.settings.plan
    if before.middle == "streamed" != after.middle:
        return Reason("gives_room")
    if percent >= NOTED_PERCENT:
        return Reason("gives_speed", {"percent": percent})
    if before.middle == "leaves" and after.middle == "stays":
        return Reason("gives_calm")
    return None


def _room_for_all(row: ModelRow, request: PlanRequest, fit: Fit) -> Reason | None:
    """Return the extra GiB (0: none) with which skipping nothing would fit and lose less."""
    for extra_gib in (0, 1, 2, 4, 8, 16) if "front" not in request.fixed else ():
        other = best_plan(row, _wider(request, extra_gib).with_fixed(front=0, back=0))
        if other and other.settings.plan.middle != "streamed" and other.loss < fit.loss:
            values: Values = {"more_gib": extra_gib, "gain": _difference(fit.loss - other.loss)}
            return Reason("room_later" if extra_gib else "room_now", values)
    return None


def _difference(gain: float) -> Reason:
    """Describe a gain of likeness (0 or more) and whether it exceeds the figures' variation."""
    if gain < 5e-5:
        return Reason("likeness_same")
    # skipping more blocks was published as better by this much, so it is no more than chance
    chance = Reason("likeness_chance") if gain <= quality_table()["chance"] + 5e-5 else None
    return Reason("likeness_more", {"likeness": round(gain, 4), "chance": chance})


def _way(settings: Settings, row: ModelRow) -> Reason:
    """Describe an option: “40 % of the blocks skipped, 512 px, 8 bits”."""
    plan = settings.plan
    percent = round(100 * (plan.front + plan.back) / row.num_blocks)
    captions = None
    if plan.text_tokens < row.text_tokens:
        captions = Reason("way_captions", {"text_tokens": plan.text_tokens})
    return Reason(
        "way",
        {
            "percent": percent,
            "blocks": Reason("way_skips" if percent else "way_skips_none", {"percent": percent}),
            "side_px": plan.side_px,
            "bits": Reason(f"bits_{plan.precision}"),
            "captions": captions,
        },
    )
