"""Calibrate a model's fast previews: choose its key steps, and decide whether larger patches are
worth using (docs/method.md §2).

Methods are measured at the previews' steps and side, on other prompts than those the adapters were
trained on. Each is compared with diffusers' step cache at the same speed setting, and chosen if it
is faster and no further from the exact sampler's pictures. Key steps are written to
presets/keysteps.toml, a schedule of larger patches beside the adapters; runs read both.
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
    """The candidates: the step cache at each speed, key steps, and each schedule with a step
    cache."""

    def methods(self, steps: int) -> list[SamplingMethod]:
        methods = [EXACT, *CACHE_METHODS.values()]
        methods += [key_step_method(num) for num in range(max(3, steps // 8), steps)]
        if not self.adapters:
            return methods
        short, long, _ = max_holds(steps)
        schedules = [constant_schedule(factor, hold) for factor in (2, 4) for hold in (short, long)]
        schedules += [PatchSchedule({4: tau, 2: tau}, hold=long) for tau in tau_thresholds(steps)]
        return methods + [
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
    """Measure, and write the results where runs read them. Returns, JSON-ready, `keys` (speed → key
    steps or []) and `schedule` (of larger patches, or None). Raises UserError."""
    sampler, (steps,) = Candidates(plan), plan.steps
    measure(plan, sampler, say)
    lines = tradeoff_report.method_lines(plan, sampler, steps)
    by_name = {method.name: method for method in sampler.methods(steps)}
    keys = {
        speed: list(sampler.key_steps(steps, by_name[name].num_key_steps))
        for speed in SPEEDS
        if (name := best_method(lines, speed, KEYS))
    }
    write_keys(PRESETS / "keysteps.toml", plan.model, steps, keys)
    schedule = None
    if sampler.adapters:
        name = best_method(lines, "fastest", BOTH)
        schedule = _schedule(steps, by_name[name]) if name else None
        path = plan.adapters or adapter_file(plan.model)
        adapters, facts = patch_adapters.load(path, sampler.transformer, sampler.family)
        if facts.get("schedule") != schedule:
            patch_adapters.save(path, adapters, facts | {"schedule": schedule})
    return {"keys": {speed: keys.get(speed, []) for speed in SPEEDS}, "schedule": schedule}


def _schedule(steps: int, method: SamplingMethod) -> dict:
    chosen = method.schedule
    return {
        "steps": steps,
        "taus": dict(chosen.taus),
        "rho": chosen.rho,
        "hold": chosen.hold,
        "cache": method.first_block_threshold,
    }


def best_method(lines: Sequence[dict], speed: str, kind: str) -> str | None:
    """Return the name of the fastest method no further off than the step cache at that speed, or
    None if it is of another kind. Larger patches, allowed for “fastest” only, are ranked by
    seconds, since their short passes have a large overhead."""
    limit = next(line for line in lines if line["way"] == CACHE_METHODS[speed].name)
    near = [
        line
        for line in lines
        if line["pixels_off"] <= limit["pixels_off"]
        and (line["kind"] != BOTH or speed == "fastest")
    ]
    fastest = max(
        near, key=lambda line: line["quicker_seconds" if line["kind"] == BOTH else "quicker_flops"]
    )
    return fastest["way"] if fastest["kind"] == kind else None


def write_keys(path: Path, model: str, steps: int, keys: dict[str, list[int]]) -> None:
    """Write a model's key steps for a number of steps into the file, keeping its top comment."""
    text = path.read_text(encoding="utf-8")
    table = tomllib.loads(text)
    table.setdefault(model, {})[str(steps)] = keys
    head = [line for line in text.splitlines() if line.startswith("#")]
    for name, by_steps in sorted(table.items()):
        for num, speeds in sorted(by_steps.items(), key=lambda item: int(item[0])):
            head += ["", f"[{name}.{num}]" if name.isidentifier() else f'["{name}".{num}]']
            head += [f"{speed} = {key_steps}" for speed, key_steps in speeds.items()]
    files.write_text(path, "\n".join(head) + "\n")
