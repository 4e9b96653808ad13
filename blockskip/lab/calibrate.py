"""Whether larger patches earn their place in a model's previews, and which schedule of them: τ,
sizes, and how long they go on (METHOD.md §2).

It is measured at the steps and side that previews have, on other prompts than those the adapters
learnt from. What earns its place is quicker than the step cache of the speed “fastest” alone, and not
further from the exact sampler's pictures. The answer stands beside the adapters, where runs look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blockskip import coarse
from blockskip.config import PREVIEW_SPEEDS
from blockskip.ddit import Schedule
from blockskip.events import UserError, command
from blockskip.lab import frontier_report
from blockskip.lab.frontier import (
    BOTH,
    CACHE,
    EXACT,
    Plan,
    Sampler,
    Way,
    all_of,
    holds,
    measure,
    taus,
)
from blockskip.place import adapter_file

LIMIT = Way("the step cache alone", CACHE, first=PREVIEW_SPEEDS["fastest"])


class Candidates(Sampler):
    """The step cache alone, and with each schedule."""

    def ways(self, steps: int) -> list[Way]:
        short, long, _ = holds(steps)
        schedules = [all_of(factor, hold) for factor in (2, 4) for hold in (short, long)]
        schedules += [Schedule({4: tau, 2: tau}, hold=long) for tau in taus(steps)]
        both = [
            Way(f"schedule {k}, cache {change:g}", BOTH, schedule, first=change)
            for k, schedule in enumerate(schedules)
            for change in (PREVIEW_SPEEDS["fast"], PREVIEW_SPEEDS["fastest"])
        ]
        return [EXACT, LIMIT, *both]


def calibrate(plan: Plan, say: Callable[[str], None]) -> dict | None:
    """Measure, and write what was found into the file of the adapters: the schedule, JSON-ready, or
    None. Raises UserError when there are no adapters."""
    path = plan.adapters or adapter_file(plan.model)
    sampler = Candidates(plan)
    if not sampler.adapters:
        raise UserError(
            f"{plan.model} has no adapters of larger patches.",
            f"Make them: {command('lab distil')}",
        )
    measure(plan, sampler, say)
    (steps,) = plan.steps
    found = best(frontier_report.lines(plan, sampler, steps))
    way = next((way for way in sampler.ways(steps) if way.name == found), None)
    chosen = way and {
        "steps": steps,
        "taus": dict(way.patches.taus),
        "rho": way.patches.rho,
        "hold": way.patches.hold,
        "cache": way.first,
    }
    adapters, facts = coarse.load(path, sampler.model, sampler.kind)
    coarse.save(path, adapters, facts | {"schedule": chosen})
    return chosen


def best(lines: Sequence[dict]) -> str | None:
    """The name of the quickest way that is not further off than LIMIT; None: LIMIT is."""
    limit = next(line for line in lines if line["way"] == LIMIT.name)
    near = [line for line in lines if line["pixels_off"] <= limit["pixels_off"]]
    found = max(near, key=lambda line: line["quicker_seconds"])
    return found["way"] if found["kind"] == BOTH else None
