"""The plan shown for the current answers, cached for equal answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from blockskip.core import presets
from blockskip.core.errors import BadInput, UserError
from blockskip.core.settings import ExecutionPlan, PreviewSpeed
from blockskip.memory import monitor
from blockskip.memory.card_programs import card_programs
from blockskip.memory.planning import planner
from blockskip.memory.planning.planner import Plan
from blockskip.memory.planning.request import free_vram_gib
from blockskip.models import sources
from blockskip.runs import storage
from blockskip.studio import strings

DEMO_MODEL = "demo"
DEFAULT_BUDGET = 8.0
STEP_GIB = 0.5  # of the slider
PHOTOS_OF_PRESET = 5  # number of photos that the presets' steps are meant for


@dataclass(frozen=True)
class NoPlan:
    """The reason there is no plan, and the smallest budget that would work (GiB, None = none)."""

    error: UserError
    smallest_gib: float | None = None


def recommended_model() -> str:
    """Return the model of real pictures that suits this computer: with a card, the first usual one
    that fits its free memory; without, the smallest one, since others would train for days."""
    rows = [row for row in presets.model_rows().values() if not row.demo]
    if monitor.usage().vram_total_gib < 0:
        return min(rows, key=lambda row: row.download_gib).name
    usual = [row.name for row in rows if row.common]
    return next(filter(_fits_card, usual), min(rows, key=lambda row: row.download_gib).name)


def _fits_card(model: str) -> bool:
    answers = {"model": model, "budget": None, "steps": None, "rank": None, "seed": None}
    planned = plan_for(answers | {"speed": None}, "pet", "pet", PHOTOS_OF_PRESET)
    return isinstance(planned, Plan)


def budget_range() -> tuple[float, float]:
    """Return the slider's (smallest, largest) budget in GiB, at least up to the card's memory."""
    most = max(tier.gib for tier in presets.budget_tiers())
    return 2.0, max(most, math.floor(monitor.usage().vram_total_gib))


def default_budget() -> float:
    """Return the largest budget that fits in the card's free memory, 8 GB without a card."""
    free, (low, high) = free_vram_gib(), budget_range()
    if free < 0:
        return DEFAULT_BUDGET
    return min(high, max(low, math.floor(free / STEP_GIB) * STEP_GIB))


def default_steps(model: str, photos: int) -> int:
    """Return the preset's steps scaled by the square root of the number of photos.

    More photos need more steps to be seen as often, but also show the pet better (ours). The scale
    is limited to between 2/3 and 2.
    """
    share = math.sqrt((photos or PHOTOS_OF_PRESET) / PHOTOS_OF_PRESET)
    return round(presets.training_preset(model)["steps"] * min(2.0, max(2 / 3, share)) / 10) * 10


def plan_for(answers: Mapping, trigger: str, class_name: str, photos: int) -> Plan | NoPlan:
    """Return the plan for answers, or why there is none.

    answers: model, budget (GiB), steps, rank, seed, speed; None = the studio's choice.
    """
    model = answers["model"]
    steps = int(answers["steps"] or default_steps(model, photos))
    budget = float(answers["budget"] or default_budget())
    if not math.isfinite(budget):
        return NoPlan(BadInput(strings.BUDGET_NO_NUMBER, strings.BUDGET_NO_NUMBER_REMEDY))
    available = storage.available_memory()
    return _plan(
        model,
        budget,
        steps,
        int(answers["rank"]) if answers["rank"] else None,
        int(answers["seed"] or 0),
        answers["speed"] or ExecutionPlan.preview_speed,
        trigger,
        class_name,
        available["ram_gib"],
        math.floor(available["free_ram_gib"] * 2) / 2,
        float(math.floor(available["disk_gib"])),
        round(card_programs().freeable_gib, 1),
        sources.picture_model(presets.model_row(model)),
        # parts of the cache key only
        round(free_vram_gib() * 2) / 2,
        round(commit.free_gib) if (commit := monitor.commit()) else None,
    )


@lru_cache(maxsize=64)
def _plan(
    model: str,
    budget: float,
    steps: int,
    rank: int | None,
    seed: int,
    speed: PreviewSpeed,
    trigger: str,
    class_name: str,
    ram: float,
    free_ram: float,
    disk: float,
    freeable: float,
    pictures: str,
    free: float,
    commit_free: int | None,
) -> Plan | NoPlan:
    def at(gib: float) -> Plan:
        return planner.make_plan(
            model=model,
            trigger=trigger,
            class_name=class_name,
            budget_gib=gib,
            ram_gib=ram,
            free_ram_gib=free_ram,
            disk_gib=disk,
            freeable_gib=freeable,
            steps=steps,
            rank=rank,
            seed=seed,
            preview_every=max(1, steps // 4),
            preview_speed=speed,
            preview_model=pictures,
        )

    try:
        return at(budget)
    except UserError as error:
        return NoPlan(error, _smallest_budget(at, budget))


def _smallest_budget(at: Callable[[float], Plan], budget: float) -> float | None:
    """Return the slider's smallest working budget above `budget` (by bisection), None if none."""

    def works(position: int) -> bool:
        try:
            at(position * STEP_GIB)
            return True
        except UserError:
            return False

    low, high = math.ceil(budget / STEP_GIB), int(budget_range()[1] / STEP_GIB)
    if not works(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle + 1, high)
    return high * STEP_GIB
