"""What makes a model's previews quickest: its key steps, and whether larger patches earn a place beside
them (docs/method.md §2).

All is measured at the steps and side that previews have, on other prompts than those adapters learnt
from, and held against the library's step cache at the same speed: what earns its place is quicker, and not
further from the exact sampler's pictures. Key steps then stand in presets/keysteps.toml, a schedule of
larger patches beside the adapters; runs look there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from blockskip.core import files
from blockskip.core.paths import PRESETS, adapter_file
from blockskip.core.settings import PREVIEW_SPEEDS
from blockskip.lab.previews import report as tradeoff_report
from blockskip.lab.previews.sampling_methods import (
    BOTH,
    CACHE,
    EXACT,
    KEYS,
    SamplingMethod,
    constant_schedule,
    key_step_method,
    max_holds,
    tau_thresholds,
)
from blockskip.lab.previews.tradeoff import Plan, Sampler, measure
from blockskip.sampling import patch_adapters
from blockskip.sampling.dynamic_patches import PatchSchedule

SPEEDS = [speed for speed, change in PREVIEW_SPEEDS.items() if change]
CACHE_METHODS = {
    speed: SamplingMethod(
        f"step cache, {speed}", CACHE, first_block_threshold=PREVIEW_SPEEDS[speed]
    )
    for speed in SPEEDS
}


class Candidates(Sampler):
    """The step cache at each speed, so many key steps, and each schedule with a step cache."""

    def methods(self, steps: int) -> list[SamplingMethod]:
        found = [EXACT, *CACHE_METHODS.values()]
        found += [key_step_method(num) for num in range(max(3, steps // 8), steps)]
        if not self.adapters:
            return found
        short, long, _ = max_holds(steps)
        schedules = [constant_schedule(factor, hold) for factor in (2, 4) for hold in (short, long)]
        schedules += [PatchSchedule({4: tau, 2: tau}, hold=long) for tau in tau_thresholds(steps)]
        return found + [
            SamplingMethod(
                f"schedule {k}, cache {PREVIEW_SPEEDS[speed]:g}",
                BOTH,
                schedule,
                first_block_threshold=limit.first_block_threshold,
            )
            for k, schedule in enumerate(schedules)
            for speed, limit in CACHE_METHODS.items()
        ]


def calibrate(plan: Plan, say: Callable[[str], None]) -> dict:
    """Measure, and write what was found where runs look. Gives, JSON-ready, `keys`: of each speed the key
    steps or [], and `schedule`: of larger patches, or None. Raises UserError."""
    sampler, (steps,) = Candidates(plan), plan.steps
    measure(plan, sampler, say)
    lines = tradeoff_report.method_lines(plan, sampler, steps)
    ways = {way.name: way for way in sampler.methods(steps)}
    keys = {
        speed: list(sampler.key_steps(steps, ways[name].num_key_steps))
        for speed in SPEEDS
        if (name := best_method(lines, speed, KEYS))
    }
    write_keys(PRESETS / "keysteps.toml", plan.model, steps, keys)
    schedule = None
    if sampler.adapters:
        name = best_method(lines, "fastest", BOTH)
        schedule = _schedule(steps, ways[name]) if name else None
        path = plan.adapters or adapter_file(plan.model)
        adapters, facts = patch_adapters.load(path, sampler.transformer, sampler.family)
        if facts.get("schedule") != schedule:
            patch_adapters.save(path, adapters, facts | {"schedule": schedule})
    return {"keys": {speed: keys.get(speed, []) for speed in SPEEDS}, "schedule": schedule}


def _schedule(steps: int, way: SamplingMethod) -> dict:
    chosen = way.schedule
    return {
        "steps": steps,
        "taus": dict(chosen.taus),
        "rho": chosen.rho,
        "hold": chosen.hold,
        "cache": way.first_block_threshold,
    }


def best_method(lines: Sequence[dict], speed: str, kind: str) -> str | None:
    """The name of the quickest way that is not further off than the step cache at that speed, if it is
    of that kind; None: another is the quickest. Larger patches, which “fastest” alone may have, count by
    their seconds: more is done around their short passes."""
    limit = next(line for line in lines if line["way"] == CACHE_METHODS[speed].name)
    near = [
        line
        for line in lines
        if line["pixels_off"] <= limit["pixels_off"]
        and (line["kind"] != BOTH or speed == "fastest")
    ]
    found = max(
        near, key=lambda one: one["quicker_seconds" if one["kind"] == BOTH else "quicker_flops"]
    )
    return found["way"] if found["kind"] == kind else None


def write_keys(path: Path, model: str, steps: int, keys: dict[str, list[int]]) -> None:
    """Put a model's key steps of so many steps into that file; the comment at its top stays."""
    text = path.read_text(encoding="utf-8")
    table = tomllib.loads(text)
    table.setdefault(model, {})[str(steps)] = keys
    head = [line for line in text.splitlines() if line.startswith("#")]
    for name, by_steps in sorted(table.items()):
        for num, speeds in sorted(by_steps.items(), key=lambda item: int(item[0])):
            head += ["", f"[{name}.{num}]" if name.isidentifier() else f'["{name}".{num}]']
            head += [f"{speed} = {found}" for speed, found in speeds.items()]
    files.write_text(path, "\n".join(head) + "\n")
