"""Counts the work of a run, and the seconds it takes on a card of known rates. No torch.

Computing and copying overlap, so a stage takes the longer of both; unpacking weights and draws that
wait in RAM are added. Pictures, captions and loading are not included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from blockskip.core import stages
from blockskip.core.presets import ModelRow, rate_table
from blockskip.core.settings import Settings
from blockskip.memory.planning.model_stats import (
    block_multiply_adds,
    model_bytes,
    weight_bytes,
)
from blockskip.memory.planning.run_sizes import (
    kept_bytes,
    kept_middle_bytes,
    middle_bytes,
    state_bytes,
    text_rows,
    waiting_bytes,
)

# bytes of GPU memory traffic to unpack a weight for a product: read, then written in 16 bits
UNPACKED = {"full": 0.0, "int8": 1.0 + 2.0, "nf4": 0.53 + 2.0}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a PC reaches. tflops: products. memory_gbs: of the card's memory. bus_gbs: between RAM
    and card. disk_gbs: of files that RAM does not hold (inf: not counted)."""

    tflops: float
    memory_gbs: float
    bus_gbs: float
    disk_gbs: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one stage. bus_gb: weights over the bus. disk_gb: those of them from files.
    state_gb: draws over the bus. unpacked_gb: traffic of unpacking weights."""

    tflop: float
    bus_gb: float = 0.0
    disk_gb: float = 0.0
    state_gb: float = 0.0
    unpacked_gb: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """Return the seconds that the stage takes."""
        computing = self.tflop / rates.tflops
        copying = max(self.bus_gb / rates.bus_gbs, self.disk_gb / rates.disk_gbs)
        waiting = self.unpacked_gb / rates.memory_gbs + self.state_gb / rates.bus_gbs
        return max(computing, copying) + waiting


def usual_rates(**other: float) -> Rates:
    """Return the rates of a common card (presets/budgets.toml), by which plans are compared."""
    return Rates(**{**rate_table(), **other})


def run_seconds(row: ModelRow, settings: Settings, rates: Rates) -> float:
    """Return the seconds of a run's windows and steps."""
    work = run_work(row, settings, settings.num_draws * settings.reuse)
    return sum(each.seconds(rates) for each in work.values())


def run_work(
    row: ModelRow, settings: Settings, draws: float, tflop: Mapping[str, float] | None = None
) -> dict[str, Work]:
    """Return the work of windows and steps, by stage, for that many uses of draws.

    tflop: of one pass (micro-batch) in each stage, where it was measured; None: counted.
    """
    plan, tflop = settings.plan, tflop or _tflop_per_pass(row, settings)
    fresh = draws / settings.reuse
    passes = fresh * (1 + settings.prior)  # draws of the bare class word need two passes
    windows = math.ceil(fresh / settings.window_draws)
    middle, steps = middle_bytes(row, settings), draws / plan.batch
    unpacking = UNPACKED[plan.precision] / weight_bytes(row, plan.precision)
    # a middle that leaves the GPU is loaded again for the steps
    crossing = windows * (waiting_bytes(row, settings) + middle * (plan.middle == "leaves"))
    streamed = steps * 2 * middle * (plan.middle == "streamed")
    state = 0.0 if plan.window_on_card else state_bytes(row, settings)
    num_passes = passes / plan.micro_batch
    # what RAM keeps is read once, as a model that is opened
    middle_read = middle - kept_middle_bytes(row, settings)
    read = waiting_bytes(row, settings) - kept_bytes(row, settings)
    read += middle_read * (plan.middle == "leaves")
    return {
        stages.RESIDUALS: Work(
            tflop=num_passes * tflop[stages.RESIDUALS],
            bus_gb=crossing / 1e9,
            disk_gb=windows * read / 1e9,
            # a window in RAM is copied both ways at every block, without overlap
            state_gb=2 * row.num_blocks * passes * state / 1e9,
            unpacked_gb=num_passes * model_bytes(row, plan.precision) * unpacking / 1e9,
        ),
        stages.TRAIN: Work(
            tflop=steps * tflop[stages.TRAIN],
            bus_gb=streamed / 1e9,
            disk_gb=steps * 2 * middle_read * (plan.middle == "streamed") / 1e9,
            unpacked_gb=steps * (2 + plan.checkpointing) * middle * unpacking / 1e9,
        ),
    }


def _tflop_per_pass(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Count the products of blocks. Backward through frozen weights costs as much as forward."""
    plan = settings.plan
    block = 2 * block_multiply_adds(row, plan.side_px, text_rows(row, settings)) / 1e12
    middle = row.num_blocks - plan.front - plan.back
    return {
        stages.RESIDUALS: plan.micro_batch * row.num_blocks * block,
        stages.TRAIN: plan.batch * middle * block * (2 + plan.checkpointing),
    }
