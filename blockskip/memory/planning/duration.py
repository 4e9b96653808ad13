"""Counts the work of a run, and the seconds it takes on a card of known rates. No torch.

Computing and copying overlap, so a stage takes the longer of both; unpacking weights and draws that
wait in RAM are added. Captions are not included. The start, and photos and pictures that pass the
VAE, count where they were measured (measured_speed.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from blockskip.core import stages
from blockskip.core.presets import ModelRow, key_steps, rate_table
from blockskip.core.settings import ExecutionPlan, Settings
from blockskip.memory.planning.model_stats import (
    block_multiply_adds,
    int8_share,
    model_bytes,
    numbers_per_multiply_add,
    weight_bytes,
)
from blockskip.memory.planning.run_sizes import (
    block_passes,
    guides,
    kept_bytes,
    kept_middle_bytes,
    middle_bytes,
    on_sibling,
    state_bytes,
    text_rows,
    waiting_bytes,
)

# bytes of GPU memory traffic to unpack a weight for a product: read, then written in 16 bits
UNPACKED = {"full": 0.0, "int8": 1.0 + 2.0, "nf4": 0.53 + 2.0}
# … for each number that goes into or comes out of a product in 8 bits (memory/int8_products.py). In:
# its row's largest is found (2), it is rotated (4) or multiplied by the weight's scale (4), scaled
# (4), rounded (4), made an integer (3), read (1). Out: the sum is written (4), made 16 bits (6),
# scaled or rotated (4).
ROUNDED_BYTES = 16.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a PC reaches. tflops: products. memory_gbs: of the card's memory. bus_gbs: between RAM
    and card. disk_gbs: of files that RAM does not hold (inf: not counted). launch_ms: to start the
    kernels of one pass of a block, forward or backward; a small pass takes no less. launches_wait:
    whether computing waits for that, as on a processor. backward: times that a backward pass takes
    of a forward one. int8_times: how many times as fast products of 8-bit integers are, without
    rounding. encode_mps, decode_mps: megapixels a second through the VAE (inf: not counted). start_s: until the model is
    open."""

    tflops: float
    memory_gbs: float
    bus_gbs: float
    disk_gbs: float = math.inf
    launch_ms: float = 0.0
    launches_wait: bool = False
    backward: float = 1.0
    encode_mps: float = math.inf
    decode_mps: float = math.inf
    start_s: float = 0.0
    int8_times: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one stage. int8_tflop: the part of `tflop` that is multiplied in 8 bits. passes:
    of a block, forward or backward. backward: the share of them that is. bus_gb: weights over the
    bus. disk_gb: those of them from files. state_gb: draws over the bus. unpacked_gb, rounded_gb:
    traffic of unpacking weights and of rounding what they are multiplied with. encoded_mp,
    decoded_mp: megapixels through the VAE."""

    tflop: float
    int8_tflop: float = 0.0
    passes: float = 0.0
    backward: float = 0.0
    bus_gb: float = 0.0
    disk_gb: float = 0.0
    state_gb: float = 0.0
    unpacked_gb: float = 0.0
    rounded_gb: float = 0.0
    encoded_mp: float = 0.0
    decoded_mp: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """Return the seconds that the stage takes."""
        tflop = self.tflop - self.int8_tflop * (1 - 1 / rates.int8_times)
        products, launches = tflop / rates.tflops, self.passes * rates.launch_ms / 1000
        computing = products + launches if rates.launches_wait else max(products, launches)
        computing *= 1 + self.backward * (rates.backward - 1)
        computing += self.encoded_mp / rates.encode_mps + self.decoded_mp / rates.decode_mps
        copying = max(self.bus_gb / rates.bus_gbs, self.disk_gb / rates.disk_gbs)
        traffic = self.unpacked_gb + self.rounded_gb
        waiting = traffic / rates.memory_gbs + self.state_gb / rates.bus_gbs
        return max(computing, copying) + waiting


def usual_rates(**other: float) -> Rates:
    """Return the rates of a common card (presets/budgets.toml), by which plans are compared."""
    known: dict[str, Any] = {**rate_table(), **other}
    return Rates(**known)


def run_seconds(row: ModelRow, settings: Settings, rates: Rates) -> float:
    """Return the seconds of a run: its start, latents, windows, steps and sample pictures."""
    work = run_work(row, settings, settings.num_draws * settings.reuse)
    pictures = pictures_work(row, settings, lambda side_px: _pass_tflop(row, settings, side_px))
    latents = Work(tflop=0.0, encoded_mp=settings.num_draws * settings.plan.side_px**2 / 1e6)
    return rates.start_s + sum(each.seconds(rates) for each in (latents, *work.values(), pictures))


def run_work(
    row: ModelRow, settings: Settings, draws: float, tflop: Mapping[str, float] | None = None
) -> dict[str, Work]:
    """Return the work of windows and steps, by stage, for that many uses of draws.

    tflop: of one pass (micro-batch) in each stage, where it was measured; None: counted.
    """
    tflop = tflop or _tflop_per_pass(row, settings)
    return {
        stages.RESIDUALS: _windows_work(row, settings, draws, tflop[stages.RESIDUALS]),
        stages.TRAIN: _steps_work(row, settings, draws, tflop[stages.TRAIN]),
    }


def _windows_work(row: ModelRow, settings: Settings, draws: float, tflop: float) -> Work:
    plan, fresh = settings.plan, draws / settings.reuse
    # draws of the bare class word need another pass
    passes = fresh * (plan.skips + settings.prior)
    windows, micro_batches = math.ceil(fresh / settings.window_draws), passes / plan.micro_batch
    state = 0.0 if plan.window_on_card else state_bytes(row, settings)
    unpacked = micro_batches * model_bytes(row, plan.precision) * _unpacking(row, plan)
    return Work(
        tflop=micro_batches * tflop,
        **_in_int8(row, settings, micro_batches * tflop, plan.side_px),
        passes=micro_batches * row.num_blocks,
        bus_gb=windows * _crossing(row, settings) / 1e9,
        disk_gb=windows * _read(row, settings) / 1e9,
        # a window in RAM is copied both ways at every block, without overlap
        state_gb=2 * row.num_blocks * passes * state / 1e9,
        unpacked_gb=unpacked / 1e9,
    )


def _steps_work(row: ModelRow, settings: Settings, draws: float, tflop: float) -> Work:
    plan = settings.plan
    middle, steps = middle_bytes(row, settings), draws / plan.batch
    trained = row.num_blocks - plan.front - plan.back
    passes = steps * block_passes(row, settings)
    crossings = 2 * steps * (plan.middle == "streamed")
    return Work(
        tflop=steps * tflop,
        **_in_int8(row, settings, steps * tflop, plan.side_px),
        passes=passes,
        backward=trained / block_passes(row, settings),
        bus_gb=crossings * middle / 1e9,
        disk_gb=crossings * (middle - kept_middle_bytes(row, settings)) / 1e9,
        unpacked_gb=passes * middle / trained * _unpacking(row, plan) / 1e9,
    )


def _in_int8(row: ModelRow, settings: Settings, tflop: float, side_px: int) -> dict[str, float]:
    """Return the part of so much work that is multiplied in 8 bits (all linears, as if none was
    exempt for its error), and the GB of memory traffic for rounding."""
    if not settings.plan.int8_products:
        return {}
    share = int8_share(row, side_px, text_rows(row, settings))
    rounded = ROUNDED_BYTES * 1e12 / 2 * numbers_per_multiply_add(row) / 1e9
    return {"int8_tflop": share * tflop, "rounded_gb": rounded * share * tflop}


def _unpacking(row: ModelRow, plan: ExecutionPlan) -> float:
    """Return the bytes of memory traffic to unpack a byte of weights for a product."""
    if plan.int8_products:
        return 0.0
    return UNPACKED[plan.precision] / weight_bytes(row, plan.precision)


def sampling_passes(row: ModelRow, settings: Settings) -> int:
    """Return the passes of the model that sample a picture; the empty prompt doubles them."""
    return settings.preview_steps * (1 + guides(row, settings))


def pictures_work(row: ModelRow, settings: Settings, pass_tflop: Callable[[int], float]) -> Work:
    """Return the work of a run's sample pictures, every step computed but those between measured
    key steps. The pictures of a time pass each block together.

    pass_tflop: returns the TFLOP of a picture's pass through the model, by its side in pixels.
    """
    times, once_more = settings.preview_times, int(settings.finishes_large)
    passes = sampling_passes(row, settings) * _computed_share(settings)
    pictures = len(settings.preview_prompts) * settings.preview_images
    num_times = (times + once_more) * passes
    crossing, read = _crossing(row, settings), _read(row, settings)
    again = 0.0
    if on_sibling(row, settings):  # none of it is on the card, and RAM holds it only meanwhile
        crossing = model_bytes(row, settings.plan.precision)
        kept = min(crossing, kept_bytes(row, settings))
        read, again = crossing - kept, kept + kept_bytes(row, settings)
    sizes = {settings.progress_px: times}
    sizes[settings.preview_px] = sizes.get(settings.preview_px, 0) + once_more
    products: Counter[str] = Counter()
    for side_px, count in sizes.items():
        tflop = pictures * passes * count * pass_tflop(side_px)
        products.update({"tflop": tflop, **_in_int8(row, settings, tflop, side_px)})
    return Work(
        **products,
        passes=num_times * row.num_blocks,
        bus_gb=num_times * crossing / 1e9,
        disk_gb=(num_times * read + (times + once_more) * again) / 1e9,
        decoded_mp=pictures * sum(count * px**2 for px, count in sizes.items()) / 1e6,
    )


def _computed_share(settings: Settings) -> float:
    """Return the share of sampling steps that are computed, as far as it is known beforehand."""
    steps = settings.preview_steps
    return len(key_steps(settings.model, settings.plan.preview_speed, steps)) / steps or 1.0


def _tflop_per_pass(row: ModelRow, settings: Settings) -> dict[str, float]:
    """Count the products of blocks. Backward through frozen weights costs as much as forward."""
    plan = settings.plan
    whole = _pass_tflop(row, settings, plan.side_px)
    passes = block_passes(row, settings) / row.num_blocks
    return {
        stages.RESIDUALS: plan.micro_batch * whole,
        stages.TRAIN: plan.batch * passes * whole,
    }


def _pass_tflop(row: ModelRow, settings: Settings, side_px: int) -> float:
    """Count the products of one picture's pass through all blocks."""
    return 2e-12 * row.num_blocks * block_multiply_adds(row, side_px, text_rows(row, settings))


def _crossing(row: ModelRow, settings: Settings) -> float:
    """Return the bytes over the bus for one pass of the model. A middle that leaves the GPU is
    loaded again afterwards."""
    leaves = settings.plan.middle == "leaves"
    return waiting_bytes(row, settings) + middle_bytes(row, settings) * leaves


def _read(row: ModelRow, settings: Settings) -> float:
    """Return the bytes of `_crossing` that come from files. What RAM keeps is read once, as a model
    that is opened."""
    middle_read = middle_bytes(row, settings) - kept_middle_bytes(row, settings)
    read = waiting_bytes(row, settings) - kept_bytes(row, settings)
    return read + middle_read * (settings.plan.middle == "leaves")
