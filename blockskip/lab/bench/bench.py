"""Benchmark plain LoRA, QLoRA, LoRA with block swap and BlockSkip on this device (docs/method.md
§1.8, §3).

Each contender runs alone in a process (worker.py), all of them once per round, so that a machine
that slows down affects all. Ratios are taken within a round. A first, untimed round counts FLOPs.
The ceiling of a speed-up is plain LoRA's FLOPs over the contender's.

The model has the true shape and random weights, so bytes and seconds are real and pictures are not.
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
    """Run the benchmark and return a JSON-ready report; report.py formats it.

    A contender that runs out of memory or fails is reported as failed. Raises UserError if the disk
    is too small.
    """
    dtype = plan.dtype
    if dtype == "auto":
        dtype = "float32" if pick_device(plan.device).type == "cpu" else "bfloat16"
    import torch

    entrants = contenders(plan)
    model = flux(plan.shape, getattr(torch, dtype))
    folder = plan.folder or plan.work / f"{plan.size}-{dtype}"
    write_checkpoint(
        model,
        folder / "transformer",
        stem="diffusion_pytorch_model",
        progress=lambda n, total: say(f"random weights: {n / GIB:.1f}/{total / GIB:.1f} GiB"),
    )
    jobs = [_job(plan, entrant, dtype, folder) for entrant in entrants]
    counts, *rounds = _rounds(plan, jobs, say)
    report = {
        "weights": "random, of the true shape",
        "params": sum(p.numel() for p in model.parameters()),
        "dtype": dtype,
        "device": pick_device(plan.device).type,
        "plan": {k: v for k, v in asdict(plan).items() if k not in ("work", "folder", "timeline")},
        "contenders": compare(entrants, counts, rounds),
    }
    if plan.timeline:
        report["timeline"] = _timeline(plan, jobs, say)
    return report


def _rounds(plan: Plan, jobs: Sequence[Job], say: LogFn) -> list[list[dict]]:
    """Run every job once per round. The first round counts FLOPs."""
    total, rounds = len(jobs) * (plan.rounds + 1), []
    for n in range(plan.rounds + 1):
        reports = []
        for k, job in enumerate(jobs):
            activity = f"round {n}/{plan.rounds}" if n else "counting"
            say(f"{n * len(jobs) + k + 1}/{total} {activity}: {job.name}")
            reports.append(_run_or_failure(replace(job, count=n == 0)))
        rounds.append(reports)
    return rounds


def _timeline(plan: Plan, jobs: Sequence[Job], say: LogFn) -> dict:
    """Profile a window and a few steps of the last contender with windows."""
    job = next((job for job in reversed(jobs) if job.windows), jobs[-1])
    say(f"timeline of {job.name}")
    timeline = str(Path(plan.timeline).absolute())
    traced = _run_or_failure(replace(job, timeline=timeline, most_steps=TRACED_STEPS))
    return {k: traced[k] for k in ("name", "stages", "failed") if k in traced}


def _job(plan: Plan, contender: Contender, dtype: str, folder: Path) -> Job:
    return Job(
        name=contender.name,
        settings=settings_to_dict(contender.settings),
        windows=contender.windows,
        shape=plan.shape,
        dtype=dtype,
        folder=str(folder.absolute()),
        cap_gib=contender.cap_gib,
        swapped=contender.swapped,
    )


def _run_or_failure(job: Job) -> dict:
    """Run a job as `run_job` does, but return a failure instead of raising it."""
    try:
        return run_job(job)
    except UserError as error:
        return {"name": job.name, "failed": error.title}


def run_job(job: Job) -> dict:
    """Run a job in its own process and return its report. Raises UserError if it fails."""
    return run_in_subprocess("blockskip.lab.bench.worker", job, Path(job.folder) / "jobs", job.name)


def compare(
    those: Sequence[Contender], counts: Sequence[dict], rounds: Sequence[Sequence[dict]]
) -> list[dict]:
    """Return a row per contender: medians over rounds, and ratios to the reference in the same
    round."""
    names = [contender.name for contender in those]
    reference_index = names.index(REFERENCE) if REFERENCE in names else None
    rows = []
    for i, contender in enumerate(those):
        own_rounds = [reports[i] for reports in rounds]
        failed = [report["failed"] for report in (counts[i], *own_rounds) if "failed" in report]
        row = {"name": contender.name, "about": contender.about, "cap_gib": contender.cap_gib}
        if failed:
            rows.append(row | {"failed": failed[0]})
            continue
        row |= _medians(own_rounds, counts[i]) | _compare_to_plan(contender, own_rounds)
        reference = (
            [reports[reference_index] for reports in rounds] if reference_index is not None else []
        )
        if reference and not any(
            "failed" in report for report in (counts[reference_index], *reference)
        ):
            row |= _compare_to_reference(own_rounds, counts[i], reference, counts[reference_index])
        rows.append(row)
    return rows


def _medians(own_rounds: Sequence[dict], count: dict) -> dict:
    seconds = [report["seconds_a_draw"] for report in own_rounds]
    row = {
        "seconds_a_draw": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
        "window_seconds_a_draw": statistics.median(
            report["window_seconds_a_draw"] for report in own_rounds
        ),
        "step_seconds_a_draw": statistics.median(
            report["step_seconds_a_draw"] for report in own_rounds
        ),
        "tflop_a_draw": count["flops_a_draw"] / 1e12,
        "step_tflop_a_draw": count["step_flops_a_draw"] / 1e12,
        "weight_bytes_a_draw": own_rounds[0]["weight_bytes_a_draw"],
        "window_bytes_a_draw": own_rounds[0]["window_bytes_a_draw"],
        "peak_gib": max(_peak_gib(report) for report in own_rounds),
        "before_gib": max(_baseline_gib(report) for report in own_rounds),
        "first_loss": own_rounds[0]["losses"][0],
        "stages": own_rounds[-1]["stages"],
    }
    return row | ({"storage_gib": count["storage_gib"]} if "storage_gib" in count else {})


def _compare_to_reference(
    own_rounds: Sequence[dict], count: dict, reference: Sequence[dict], reference_count: dict
) -> dict[str, object]:
    """Return the speed-up over plain LoRA, its ceiling, and the memory ratio."""
    times = [
        b["seconds_a_draw"] / a["seconds_a_draw"]
        for a, b in zip(own_rounds, reference, strict=True)
    ]
    ceiling = reference_count["flops_a_draw"] / count["flops_a_draw"]
    peaks = [max(_peak_gib(report) for report in rounds) for rounds in (reference, own_rounds)]
    # MemoryWatch rounds to a thousandth
    above = [
        max(1e-3, *(_peak_gib(s) - _baseline_gib(s) for s in rounds))
        for rounds in (reference, own_rounds)
    ]
    return {
        "times_faster": statistics.median(times),
        "times_spread": [min(times), max(times)],
        "ceiling": ceiling,
        "share_of_ceiling": statistics.median(times) / ceiling,
        "times_less_memory": peaks[0] / peaks[1],
        "times_less_above_program": above[0] / above[1],
    }


def _peak_gib(report: dict) -> float:
    """Return the peak in GiB, of GPU memory if there is a GPU, else of the process in RAM."""
    card = [s["allocated_gib"] for s in report["stages"].values() if "allocated_gib" in s]
    return max(card) if card else report["memory"]["peak_gib"]


def _baseline_gib(report: dict) -> float:
    """Return the part of `_peak_gib` in use before the model was opened, in GiB."""
    on_card = any("allocated_gib" in stage for stage in report["stages"].values())
    return 0.0 if on_card else report["memory"]["before_gib"]


def _compare_to_plan(contender: Contender, own_rounds: Sequence[dict]) -> dict:
    """Compare the GPU memory peak of each stage with the plan, if there is one."""
    if not contender.planned or "allocated_gib" not in own_rounds[0]["stages"]["train"]:
        return {}
    stages = {}
    for name, planned in contender.planned.items():
        peak = max(report["stages"][name]["allocated_gib"] for report in own_rounds)
        process_gib = max(
            report["stages"][name]["reserved_gib"] + report["context_gib"] for report in own_rounds
        )
        stages[name] = {
            "planned_gib": planned,
            "peak_gib": peak,
            "planner_off": planned / peak - 1,
            "whole_process_gib": process_gib,
            "within_cap": process_gib <= contender.cap_gib,
        }
    return {"against_plan": stages}
