"""Minutes to a LoRA on cards that nobody measured here: operations and bytes, counted, over the rates that
the makers publish. Arithmetic, and said to be that.

What counts is the plan that a card of that size gets: operations from simulated stages (lab/full_size/simulate.py),
bytes from the byte tables. A stage takes as long as the longer of its computing and its copying, which
go on at the same time; unpacking weights goes on with neither. Of the published rate no card gives all:
the share is what was measured (`--gpu speed`), else the least and a half are both told.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache

from blockskip.core import stages
from blockskip.core.presets import ModelRow, model_row
from blockskip.core.settings import Settings
from blockskip.lab.full_size.simulate import simulate
from blockskip.lab.previews.costs import pass_costs
from blockskip.memory.planning.model_stats import model_bytes, model_stats, weight_bytes
from blockskip.memory.planning.planner import make_plan
from blockskip.memory.planning.requirements import (
    image_tokens,
    middle_bytes,
    text_rows,
    waiting_bytes,
)

DRAWS = 2000
# bytes that pass the card's own memory when a weight is unpacked for a product: read, written in 16 bits
UNPACKED = {"full": 0.0, "int8": 1.0 + 2.0, "nf4": 0.53 + 2.0}
STAGES = (stages.LATENTS, stages.RESIDUALS, stages.TRAIN)
PLAN_OPTIONS = {
    "as planned": {},
    "quick": {"skip": "0.5"},
}  # quick: half of the blocks, the smallest side


@dataclass(frozen=True)
class GpuSpec:
    """tflops: of products in bf16 that add up in fp32, dense; memory_gbs: of its own memory; bus_gbs:
    of its PCIe 4.0 lanes."""

    gib: float
    tflops: float
    memory_gbs: float
    bus_gbs: float


# As published by NVIDIA: bf16 with fp32 sums is twice what they publish as fp32 for these two families.
GPU_SPECS = {
    "RTX 3060 12 GB": GpuSpec(12, 2 * 12.74, 360, 31.5),
    "RTX 4060 8 GB": GpuSpec(8, 2 * 15.11, 272, 15.75),
    "RTX 4070 12 GB": GpuSpec(12, 2 * 29.15, 504, 31.5),
    "RTX 3090 24 GB": GpuSpec(24, 2 * 35.58, 936, 31.5),
    "RTX 4090 24 GB": GpuSpec(24, 2 * 82.58, 1008, 31.5),
}


def work(model: str = "flux-dev", share: float = 0.0) -> dict:
    """JSON-ready: two rows a card. share: of the published rate that training reaches, 0: not measured."""
    shares = [share] if share else [1.0, 0.5]
    rows = [
        _row(model_row(model), name, card, way, shares)
        for way in PLAN_OPTIONS
        for name, card in GPU_SPECS.items()
    ]
    return {"model": model, "draws": DRAWS, "share_measured": bool(share), "rows": rows}


def _row(row: ModelRow, name: str, card: GpuSpec, way: str, shares: list[float]) -> dict:
    asked = PLAN_OPTIONS[way] | ({"s_min_px": row.s_min_px} if way == "quick" else {})
    plan = make_plan(
        model=row.name, budget_gib=card.gib, system="Windows", free_gib=float("inf"), **asked
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
    """TFLOP of what passes at once in each stage."""
    return {name: peak.tflop for name, peak in simulate(settings, STAGES).items()}


def _work_counts(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Of a whole LoRA, for windows and for steps: TFLOP, GB over the bus, GB that unpacking moves on
    the card; and the TFLOP of one sample picture, every step computed."""
    plan, tflop = settings.plan, _tflop_per_pass(settings)
    fresh = DRAWS / settings.reuse
    seen = fresh * (1 + settings.prior)  # draws of the bare class word pass twice
    windows = math.ceil(fresh / settings.window_draws)
    middle, moved = middle_bytes(row, settings), UNPACKED[plan.precision]
    moved /= weight_bytes(row, plan.precision)
    steps = DRAWS / plan.batch
    # a middle that leaves comes back for the steps
    crossing = waiting_bytes(row, settings) + middle * (plan.middle == "leaves")
    unpacked = {
        "windows": seen / plan.micro_batch * model_bytes(row, plan.precision),
        "steps": steps * (2 + plan.checkpointing) * middle,
    }
    return {
        "latents_tflop": fresh / plan.encode_batch * tflop["latents"],
        "windows_tflop": seen / plan.micro_batch * tflop["residuals"],
        "steps_tflop": steps * tflop["train"],
        "windows_bus_gb": windows * crossing / 1e9,
        # a window that waits in RAM goes to and fro at every block, and nothing is computed meanwhile
        "windows_state_gb": 2 * row.num_blocks * seen * _state_bytes(row, settings) / 1e9,
        "steps_bus_gb": steps * 2 * middle * (plan.middle == "streamed") / 1e9,
        "windows_unpacked_gb": unpacked["windows"] * moved / 1e9,
        "steps_unpacked_gb": unpacked["steps"] * moved / 1e9,
        "picture_tflop": settings.preview_steps
        * (1 + (row.preview_guidance > 1 and not row.guidance_embedding))
        * pass_costs(row.name)[1].flops
        / 1e12,
    }


def _state_bytes(row: ModelRow, settings: Settings) -> float:
    """Bytes of a draw between two blocks, where they wait in RAM."""
    count = (
        image_tokens(row, settings.plan.side_px)
        + text_rows(row, settings) * model_stats(row.name).stream_text
    )
    return 0.0 if settings.plan.window_on_card else float(row.number_bytes * count * row.width)


def _minutes(card: GpuSpec, counted: dict[str, float], share: float) -> dict[str, float]:
    rate = card.tflops * share

    def of(name: str) -> float:
        computing = counted[f"{name}_tflop"] / rate
        copying = counted.get(f"{name}_bus_gb", 0.0) / card.bus_gbs
        unpacking = counted.get(f"{name}_unpacked_gb", 0.0) / card.memory_gbs
        state = counted.get(f"{name}_state_gb", 0.0) / card.bus_gbs
        return (max(computing, copying) + unpacking + state) / 60

    found = {name: of(name) for name in ("latents", "windows", "steps")}
    return found | {"all": sum(found.values()), "a_picture": counted["picture_tflop"] / rate / 60}
