"""Predict the minutes to a LoRA on GPUs that were not measured here, from counted FLOPs and bytes
and the published rates. The page marks this as arithmetic.

A GPU of that size gets the plan it has under Windows beside a desktop. FLOPs come from simulated
stages (lab/full_size/simulate.py), all else from memory/planning/duration.py. No GPU reaches its
published rate. The share is the measured one (`--gpu speed`), else results for the full and for
half the rate are given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from blockskip.core import stages
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.lab.full_size.simulate import simulate
from blockskip.lab.previews.costs import pass_costs
from blockskip.memory import monitor
from blockskip.memory.planning.duration import (
    Rates,
    Work,
    pictures_work,
    run_work,
    sampling_passes,
    usual_rates,
)
from blockskip.memory.planning.measured_speed import Speed, measured_rates
from blockskip.memory.planning.model_stats import model_stats
from blockskip.memory.planning.planner import make_plan

COPY_SHARE = 0.8  # of published rates of memory and bus that copies reach; assumed
FREE = 0.93  # of a card's memory beside a desktop: 11.2 of 12 GiB are usual under Windows
MEASURED = " (measured)"  # after the name of a card that was measured
STAGES = (stages.TEXT, stages.LATENTS, stages.RESIDUALS, stages.TRAIN)
CAPTIONS, AT_A_TIME = 48, 16  # of twenty photos, and how many pass a text encoder together
PLAN_OPTIONS = {
    "as planned": {},
    "500 steps": {"steps": 500},
    "quick": {"skip": "0.5"},
}  # quick: half of the blocks, the smallest side
SIBLING = "on sibling"  # as planned, with pictures on the distilled model


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
    "RTX 4060 laptop 8 GB": GpuSpec(8, 2 * 14.56, 256, 15.75),
    "RTX 4070 12 GB": GpuSpec(12, 2 * 29.15, 504, 31.5),
    "RTX 3090 24 GB": GpuSpec(24, 2 * 35.58, 936, 31.5),
    "RTX 4090 24 GB": GpuSpec(24, 2 * 82.58, 1008, 31.5),
}


def work(model: str = "flux-dev", share: float = 0.0, speed: Speed | None = None) -> dict:
    """Return the rows of every GPU, JSON-ready. share: measured share of the published rate, 0 for
    none. speed: of this computer, whose card then has rows too."""
    shares, row = [share] if share else [1.0, 0.5], model_row(model)
    ways = [*PLAN_OPTIONS, *([SIBLING] if row.sibling else [])]
    rows = [_row(row, name, card, way, shares) for way in ways for name, card in GPU_SPECS.items()]
    if speed:
        rows += [
            _row(row, speed.computer.card + MEASURED, _measured_spec(speed), way, shares, speed)
            for way in ways
        ]
    return {"model": model, "share_measured": bool(share), "rows": rows}


def _measured_spec(speed: Speed) -> GpuSpec:
    """Return what was measured of this computer's card: its best products."""
    best = max(rate for name, rate in speed.product_tflops.items() if name.endswith("float16"))
    return GpuSpec(monitor.usage().vram_total_gib, best, speed.memory_gbs, speed.to_card_gbs)


def _row(
    row: ModelRow,
    name: str,
    card: GpuSpec,
    way: str,
    shares: list[float],
    speed: Speed | None = None,
) -> dict:
    plan = make_plan(
        model=row.name,
        budget_gib=card.gib,
        free_gib=FREE * card.gib,
        system="Windows",
        capability=8.6,
        **_options(row, way),
    )
    settings = plan.settings
    counted = _work_counts(row, settings)
    picture = _picture_tflop(row, settings.preview_px) * sampling_passes(row, settings)
    if speed and (rates := measured_rates(speed, row, settings)):
        minutes = dict.fromkeys(
            map("{:.0%}".format, shares), _counted_minutes(rates, counted, picture)
        )
    else:
        minutes = {f"{share:.0%}": _minutes(card, counted, picture, share) for share in shares}
    return {
        "card": name,
        **asdict(card),
        "way": way,
        "draws": settings.num_draws * settings.reuse,
        "skip": [settings.plan.front, settings.plan.back],
        "side_px": settings.plan.s_min_px,
        "precision": plan.to_dict()["precision"],
        "recomputed": settings.plan.recomputed,
        "batch": settings.plan.batch,
        **{f"{part}_{k}": v for part, each in counted.items() for k, v in asdict(each).items()},
        "picture_tflop": picture,
        "minutes": minutes,
    }


def _options(row: ModelRow, way: str) -> dict[str, Any]:
    if way == SIBLING:
        return {"preview_model": row.sibling.name} if row.sibling else {}
    return PLAN_OPTIONS[way] | ({"s_min_px": row.s_min_px} if way == "quick" else {})


@cache
def _tflop_per_pass(settings: Settings) -> dict[str, tuple[float, float]]:
    """Return the TFLOP of one pass (micro-batch) in each stage, and those of them in 8 bits."""
    peaks = simulate(settings, STAGES)
    return {name: (peak.tflop, peak.int8_tflop) for name, peak in peaks.items()}


def _picture_tflop(row: ModelRow, side_px: int) -> float:
    """Return the TFLOP of one picture's pass through the model."""
    return pass_costs(row.name, side_px)[1].flops / 1e12


def _work_counts(row: ModelRow, settings: Settings) -> dict[str, Work]:
    """Return the work of a whole LoRA, by part."""
    passes = _tflop_per_pass(settings)
    tflop = {name: each for name, (each, _) in passes.items()}
    work = run_work(row, settings, settings.num_draws * settings.reuse, tflop)
    work = {name: _with_int8(each, passes[name]) for name, each in work.items()}
    latents = settings.num_draws / settings.plan.encode_batch * tflop["latents"]
    text = model_stats(row.name).text.ram * row.number_bytes * CAPTIONS / AT_A_TIME / 1e9
    return {
        "text": Work(tflop=CAPTIONS * tflop[stages.TEXT], bus_gb=text, disk_gb=text),
        "latents": Work(tflop=latents),
        "windows": work[stages.RESIDUALS],
        "steps": work[stages.TRAIN],
        "pictures": pictures_work(row, settings, lambda px: _picture_tflop(row, px)),
    }


def _with_int8(counted: Work, a_pass: tuple[float, float]) -> Work:
    """Return the work with the simulated part in 8 bits: LoRA and rotations are not part of it."""
    if not counted.int8_tflop:
        return counted
    in_int8 = counted.tflop * a_pass[1] / a_pass[0]
    rounded = counted.rounded_gb * in_int8 / counted.int8_tflop
    return replace(counted, int8_tflop=in_int8, rounded_gb=rounded)


def _minutes(
    card: GpuSpec, counted: dict[str, Work], picture_tflop: float, share: float
) -> dict[str, float]:
    rates = usual_rates(
        tflops=card.tflops * share,
        memory_gbs=card.memory_gbs * COPY_SHARE,
        bus_gbs=card.bus_gbs * COPY_SHARE,
    )
    return _counted_minutes(rates, counted, picture_tflop)


def _counted_minutes(
    rates: Rates, counted: dict[str, Work], picture_tflop: float
) -> dict[str, float]:
    minutes = {part: work.seconds(rates) / 60 for part, work in counted.items()}
    return minutes | {
        "all": sum(minutes.values()),
        "a_picture": picture_tflop / rates.tflops / 60,
    }
