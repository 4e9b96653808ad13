"""Refusals: which limit is too small for any plan, and the least that would work."""

from __future__ import annotations

import math

from blockskip.core import stages
from blockskip.core.errors import DiskFull, OutOfMemory, UserError
from blockskip.core.presets import ModelRow, reserve_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.request import (
    RAM_FOR_SYSTEM,
    PlanRequest,
    exceeded_limits,
    limits,
    peak_gib,
    totals,
)
from blockskip.memory.planning.requirements import StageMemory, stage_memory
from blockskip.memory.planning.search import least_memory, options
from blockskip.memory.planning.wording import ENGLISH


class DoesNotFit(UserError):
    """No plan works with the given GPU memory, RAM or disk.

    problem, least: the limit that is too small and the least that works, as data; title and remedy
    are the same in English. least.values has least_gib and, for GPU memory and disk, the stage that
    needs the most.
    """

    def __init__(self, problem: Reason, least: Reason) -> None:
        super().__init__(ENGLISH.render(problem), ENGLISH.render(least))
        self.problem, self.least = problem, least


class MemoryTooSmall(DoesNotFit, OutOfMemory):
    """GPU memory or RAM is too small."""


class DiskTooSmall(DoesNotFit, DiskFull):
    """The disk is too small."""


def refusal(row: ModelRow, request: PlanRequest) -> DoesNotFit:
    """Return an error with the limit that is too small and the least that would work."""
    ways = [
        least_memory(row, way, streamed)
        for way in options(row, request)
        for streamed in (False, True)
    ]
    single = {}  # limits that would suffice if raised alone, each with its least demanding option
    for name in limits(request):
        candidates = [needs for needs in ways if exceeded_limits(request, needs) == [name]]
        if candidates:
            single[name] = min(candidates, key=lambda needs: totals(request, needs)[name])
    if single:
        name = min(
            single, key=lambda n: totals(request, single[n])[n] / max(limits(request)[n], 1e-9)
        )
        return _too_small(row, request, name, single[name])
    least = {
        name: min(ways, key=lambda needs: totals(request, needs)[name]) for name in limits(request)
    }
    name = next((n for n in ("ram", "disk") if n in exceeded_limits(request, least[n])), "card")
    return _too_small(row, request, name, least[name])


def demo_refusal(row: ModelRow, request: PlanRequest, settings: Settings) -> MemoryTooSmall:
    """Return an error with the memory that a demo model's plan needs and the least that works."""
    front, back = row.span(max(float(key) for key in row.spans))
    fewer = settings.changed(front=front, back=back)  # the largest span, as at the lowest tier
    problem: Values = {
        "budget_gib": request.budget_gib,
        "model": row.title,
        "needs_gib": _budget_for(request, peak_gib(stage_memory(row, settings))),
    }
    least: Values = {
        "least_gib": _round_up(_budget_for(request, peak_gib(stage_memory(row, fewer)))),
        "front": front,
        "back": back,
        "num_blocks": row.num_blocks,
    }
    return MemoryTooSmall(Reason("small_too_small", problem), Reason("small_least", least))


def _too_small(
    row: ModelRow, request: PlanRequest, name: str, least: dict[str, StageMemory]
) -> DoesNotFit:
    gib = totals(request, least)[name]
    if name == "ram":
        return MemoryTooSmall(
            Reason("ram_too_small", {"ram_gib": request.settings.ram_gib, "model": row.title}),
            Reason("ram_least", {"least_gib": _round_up(gib / (1 - RAM_FOR_SYSTEM))}),
        )
    if name == "disk":
        stage = max(stages.PLANNED, key=lambda each: least[each].disk_gib)
        return DiskTooSmall(
            Reason("disk_too_small", {"disk_gib": request.disk_gib, "model": row.title}),
            Reason("disk_least", {"least_gib": _round_up(gib), "stage": Reason(f"disk_{stage}")}),
        )
    stage = max(stages.PLANNED, key=lambda each: least[each].vram_gib)
    free = None
    if request.free_gib < request.budget_gib:
        free = Reason("budget_free", {"free_gib": request.free_gib})
    needs = {"least_gib": _round_up(_budget_for(request, gib)), "needs_gib": gib}
    return MemoryTooSmall(
        Reason(
            "budget_too_small", {"budget_gib": request.budget_gib, "model": row.title, "free": free}
        ),
        Reason("budget_least", {**needs, "stage": Reason(f"card_{stage}")}),
    )


def _budget_for(request: PlanRequest, needs_gib: float) -> float:
    """Return the budget that leaves `needs_gib` usable."""
    gaps = reserve_table()["allocator"]
    fixed = request.reserve_gib - gaps * min(request.budget_gib, request.free_gib)
    return (needs_gib + fixed) / (1 - gaps)


def _round_up(gib: float) -> float:
    """Round up to a tenth, so that the promised size suffices."""
    return math.ceil(gib * 10 - 1e-9) / 10
