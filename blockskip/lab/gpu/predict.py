"""Predict the minutes to a LoRA on GPUs that were not measured here, from counted FLOPs and bytes
and the published rates. The page marks this as arithmetic.

A GPU of that size gets its usual plan. FLOPs come from simulated stages
(lab/full_size/simulate.py), all else from memory/planning/duration.py. No GPU reaches its published rate. The share
is the measured one (`--gpu speed`), else results for the full and for half the rate are given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache

from blockskip.core import stages
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.lab.full_size.simulate import simulate
from blockskip.lab.previews.costs import pass_costs
from blockskip.memory.planning.duration import Rates, Work, run_work
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.run_sizes import middle_bytes, waiting_bytes

DRAWS = 2000
STAGES = (stages.LATENTS, stages.RESIDUALS, stages.TRAIN)
PLAN_OPTIONS = {
    "as planned": {},
    "quick": {"skip": "0.5"},
}  # quick: half of the blocks, the smallest side


@dataclass(frozen=True)
class GpuSpec:
    """A GPU's published rates. tflops: dense bf16 products with fp32 sums. memory_gbs: of its
    memory. bus_gbs: of its PCIe 4.0 lanes."""

    gib: float
    tflops: float
    memory_gbs: float
    bus_gbs: float


# Published by NVIDIA. For these two generations, bf16 with fp32 sums is twice the fp32 rate.
GPU_SPECS = {
    "RTX 3060 12 GB": GpuSpec(12, 2 * 12.74, 360, 31.5),
    "RTX 4060 8 GB": GpuSpec(8, 2 * 15.11, 272, 15.75),
    "RTX 4070 12 GB": GpuSpec(12, 2 * 29.15, 504, 31.5),
    "RTX 3090 24 GB": GpuSpec(24, 2 * 35.58, 936, 31.5),
    "RTX 4090 24 GB": GpuSpec(24, 2 * 82.58, 1008, 31.5),
}


def work(model: str = "flux-dev", share: float = 0.0) -> dict:
    """Return two rows per GPU, JSON-ready. share: measured share of the published rate, 0 for
    none."""
    shares = [share] if share else [1.0, 0.5]
    rows = [
        _row(model_row(model), name, card, way, shares)
        for way in PLAN_OPTIONS
        for name, card in GPU_SPECS.items()
    ]
    return {"model": model, "draws": DRAWS, "share_measured": bool(share), "rows": rows}


def _row(row: ModelRow, name: str, card: GpuSpec, way: str, shares: list[float]) -> dict:
    options = PLAN_OPTIONS[way] | ({"s_min_px": row.s_min_px} if way == "quick" else {})
    plan = make_plan(
        model=row.name, budget_gib=card.gib, system="Windows", free_gib=float("inf"), **options
    )
    settings = plan.settings
    counted = _work_counts(row, settings)
    return {
        "card": name,
        **asdict(card),
        "way": way,
        "skip": [settings.plan.front, settings.plan.back],
        "side_px": settings.plan.s_min_px,
        "precision": settings.plan.precision,
        "checkpointing": settings.plan.checkpointing,
        "batch": settings.plan.batch,
        **counted,
        "minutes": {f"{share:.0%}": _minutes(card, counted, share) for share in shares},
    }


@cache
def _tflop_per_pass(settings: Settings) -> dict[str, float]:
    """Return the TFLOP of one pass (micro-batch) in each stage."""
    return {name: peak.tflop for name, peak in simulate(settings, STAGES).items()}


def _work_counts(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Return the work of a whole LoRA, for windows and for steps: TFLOP, GB over the bus, GB moved
    by unpacking; and the TFLOP of sample pictures with every step computed, of all and of one in
    full size."""
    tflop = _tflop_per_pass(settings)
    work = run_work(row, settings, DRAWS, tflop)
    windows, steps = work[stages.RESIDUALS], work[stages.TRAIN]
    crossing = waiting_bytes(row, settings) + middle_bytes(row, settings) * (
        settings.plan.middle == "leaves"
    )
    return {
        "latents_tflop": DRAWS / settings.reuse / settings.plan.encode_batch * tflop["latents"],
        "windows_tflop": windows.tflop,
        "steps_tflop": steps.tflop,
        "windows_bus_gb": windows.bus_gb,
        "windows_state_gb": windows.state_gb,
        "steps_bus_gb": steps.bus_gb,
        "windows_unpacked_gb": windows.unpacked_gb,
        "steps_unpacked_gb": steps.unpacked_gb,
        **_picture_counts(row, settings, crossing),
    }


def _picture_counts(row: ModelRow, settings: Settings, crossing: float) -> dict[str, float]:
    """Return the work of a run's sample pictures. The pictures of a time pass each block together.

    crossing: bytes over the bus in a pass of the model.
    """
    passes = settings.preview_steps * (
        1 + (row.preview_guidance > 1 and not row.guidance_embedding)
    )
    small, large = (
        passes * pass_costs(row.name, px)[1].flops / 1e12
        for px in (settings.progress_px, settings.preview_px)
    )
    num = len(settings.preview_prompts) * settings.preview_images
    times, once_more = settings.preview_times, int(settings.finishes_large)
    return {
        "pictures_tflop": num * (times * small + once_more * large),
        "pictures_bus_gb": (times + once_more) * passes * crossing / 1e9,
        "picture_tflop": large,
    }


def _minutes(card: GpuSpec, counted: dict[str, float], share: float) -> dict[str, float]:
    rates = Rates(tflops=card.tflops * share, memory_gbs=card.memory_gbs, bus_gbs=card.bus_gbs)

    def of(name: str) -> float:
        kinds = ("tflop", "bus_gb", "state_gb", "unpacked_gb")
        sizes = {kind: counted.get(f"{name}_{kind}", 0.0) for kind in kinds}
        return Work(**sizes).seconds(rates) / 60

    minutes = {name: of(name) for name in ("latents", "windows", "steps", "pictures")}
    return minutes | {
        "all": sum(minutes.values()),
        "a_picture": counted["picture_tflop"] / rates.tflops / 60,
    }
