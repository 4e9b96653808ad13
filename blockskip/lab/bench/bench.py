"""Plain LoRA, QLoRA, LoRA with block swap, and ours, side by side on this device (docs/method.md §1.8, §3).

Each contender works alone in a process (worker.py), all of them once a round, so that a machine
that becomes slower becomes slower for all; ratios are taken inside a round. A first, untimed round
counts floating point operations: the ceiling of a speed-up is plain LoRA's over the contender's.

The model has the true shape and random weights: bytes and seconds are real, pictures are not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from blockskip.core.errors import UserError
from blockskip.core.settings import settings_to_dict
from blockskip.core.units import GIB
from blockskip.lab.bench.contenders import REFERENCE, Contender, Plan, contenders
from blockskip.lab.bench.worker import Job
from blockskip.lab.full_size.random_model import flux, write_checkpoint
from blockskip.lab.measuring.subprocess_job import run_in_subprocess
from blockskip.memory.placement import pick_device

TRACED_STEPS = 10
LogFn = Callable[[str], None]


def run_bench(plan: Plan, say: LogFn = lambda line: None) -> dict:
    """Measure; gives a JSON-ready report (report.py makes a table of it).

    A contender that runs out of memory, or breaks, is reported as such. Raises UserError when the disk
    is too small.
    """
    dtype = plan.dtype
    if dtype == "auto":
        dtype = "float32" if pick_device(plan.device).type == "cpu" else "bfloat16"
    import torch

    those = contenders(plan)
    model = flux(plan.shape, getattr(torch, dtype))
    folder = plan.folder or plan.work / f"{plan.size}-{dtype}"
    write_checkpoint(
        model,
        folder / "transformer",
        stem="diffusion_pytorch_model",
        progress=lambda n, total: say(f"random weights: {n / GIB:.1f}/{total / GIB:.1f} GiB"),
    )
    jobs = [_job(plan, one, dtype, folder) for one in those]
    counts, *rounds = _rounds(plan, jobs, say)
    report = {
        "weights": "random, of the true shape",
        "params": sum(p.numel() for p in model.parameters()),
        "dtype": dtype,
        "device": pick_device(plan.device).type,
        "plan": {k: v for k, v in asdict(plan).items() if k not in ("work", "folder", "timeline")},
        "contenders": compare(those, counts, rounds),
    }
    if plan.timeline:
        report["timeline"] = _timeline(plan, jobs, say)
    return report


def _rounds(plan: Plan, jobs: Sequence[Job], say: LogFn) -> list[list[dict]]:
    """Every job once a round; in the first one they count."""
    total, rounds = len(jobs) * (plan.rounds + 1), []
    for n in range(plan.rounds + 1):
        said = []
        for k, job in enumerate(jobs):
            what = f"round {n}/{plan.rounds}" if n else "counting"
            say(f"{n * len(jobs) + k + 1}/{total} {what}: {job.name}")
            said.append(_run_or_failure(replace(job, count=n == 0)))
        rounds.append(said)
    return rounds


def _timeline(plan: Plan, jobs: Sequence[Job], say: LogFn) -> dict:
    """One window and a few steps of the last contender that has windows, under the profiler."""
    job = next((job for job in reversed(jobs) if job.windows), jobs[-1])
    say(f"timeline of {job.name}")
    timeline = str(Path(plan.timeline).absolute())
    traced = _run_or_failure(replace(job, timeline=timeline, most_steps=TRACED_STEPS))
    return {k: traced[k] for k in ("name", "stages", "failed") if k in traced}


def _job(plan: Plan, one: Contender, dtype: str, folder: Path) -> Job:
    return Job(
        name=one.name,
        settings=settings_to_dict(one.settings),
        windows=one.windows,
        shape=plan.shape,
        dtype=dtype,
        folder=str(folder.absolute()),
        cap_gib=one.cap_gib,
        swapped=one.swapped,
    )


def _run_or_failure(job: Job) -> dict:
    """As `run_job`; one that breaks ends itself and not what others were measured for."""
    try:
        return run_job(job)
    except UserError as error:
        return {"name": job.name, "failed": error.title}


def run_job(job: Job) -> dict:
    """Do a job in a process of its own; gives its report. Raises UserError when it breaks."""
    return run_in_subprocess("blockskip.lab.bench.worker", job, Path(job.folder) / "jobs", job.name)


def compare(
    those: Sequence[Contender], counts: Sequence[dict], rounds: Sequence[Sequence[dict]]
) -> list[dict]:
    """A row a contender: medians of its rounds, ratios to the reference of the same round."""
    names = [one.name for one in those]
    at = names.index(REFERENCE) if REFERENCE in names else None
    rows = []
    for i, one in enumerate(those):
        mine = [said[i] for said in rounds]
        failed = [said["failed"] for said in (counts[i], *mine) if "failed" in said]
        row = {"name": one.name, "about": one.about, "cap_gib": one.cap_gib}
        if failed:
            rows.append(row | {"failed": failed[0]})
            continue
        row |= _medians(mine, counts[i]) | _compare_to_plan(one, mine)
        beside = [said[at] for said in rounds] if at is not None else []
        if beside and not any("failed" in said for said in (counts[at], *beside)):
            row |= _compare_to_reference(mine, counts[i], beside, counts[at])
        rows.append(row)
    return rows


def _medians(mine: Sequence[dict], count: dict) -> dict:
    seconds = [said["seconds_a_draw"] for said in mine]
    row = {
        "seconds_a_draw": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
        "window_seconds_a_draw": statistics.median(said["window_seconds_a_draw"] for said in mine),
        "step_seconds_a_draw": statistics.median(said["step_seconds_a_draw"] for said in mine),
        "tflop_a_draw": count["flops_a_draw"] / 1e12,
        "step_tflop_a_draw": count["step_flops_a_draw"] / 1e12,
        "weight_bytes_a_draw": mine[0]["weight_bytes_a_draw"],
        "window_bytes_a_draw": mine[0]["window_bytes_a_draw"],
        "peak_gib": max(_peak_gib(said) for said in mine),
        "before_gib": max(_baseline_gib(said) for said in mine),
        "first_loss": mine[0]["losses"][0],
        "stages": mine[-1]["stages"],
    }
    return row | ({"storage_gib": count["storage_gib"]} if "storage_gib" in count else {})


def _compare_to_reference(
    mine: Sequence[dict], count: dict, beside: Sequence[dict], its_count: dict
) -> dict[str, object]:
    """How many times faster than plain LoRA, how many times could be, how many times less memory."""
    times = [b["seconds_a_draw"] / a["seconds_a_draw"] for a, b in zip(mine, beside, strict=True)]
    ceiling = its_count["flops_a_draw"] / count["flops_a_draw"]
    peaks = [max(_peak_gib(said) for said in one) for one in (beside, mine)]
    # a thousandth is what MemoryWatch rounds to
    above = [max(1e-3, *(_peak_gib(s) - _baseline_gib(s) for s in one)) for one in (beside, mine)]
    return {
        "times_faster": statistics.median(times),
        "times_spread": [min(times), max(times)],
        "ceiling": ceiling,
        "share_of_ceiling": statistics.median(times) / ceiling,
        "times_less_memory": peaks[0] / peaks[1],
        "times_less_above_program": above[0] / above[1],
    }


def _peak_gib(said: dict) -> float:
    """Of the card where there is one, else of this process in RAM, GiB."""
    card = [s["allocated_gib"] for s in said["stages"].values() if "allocated_gib" in s]
    return max(card) if card else said["memory"]["peak_gib"]


def _baseline_gib(said: dict) -> float:
    """Of that, what was there before the model: the program."""
    on_card = any("allocated_gib" in stage for stage in said["stages"].values())
    return 0.0 if on_card else said["memory"]["before_gib"]


def _compare_to_plan(one: Contender, mine: Sequence[dict]) -> dict:
    """Where a plan said it: the most of the card in each stage beside the plan's GiB."""
    if not one.planned or "allocated_gib" not in mine[0]["stages"]["train"]:
        return {}
    found = {}
    for name, planned in one.planned.items():
        peak = max(said["stages"][name]["allocated_gib"] for said in mine)
        whole = max(said["stages"][name]["reserved_gib"] + said["context_gib"] for said in mine)
        found[name] = {
            "planned_gib": planned,
            "peak_gib": peak,
            "planner_off": planned / peak - 1,
            "whole_process_gib": whole,
            "within_cap": whole <= one.cap_gib,
        }
    return {"against_plan": found}
