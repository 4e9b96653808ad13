"""Finds settings with less memory for a stage that ran out of it (docs/method.md §1.4b).

Everything that the planner may choose without touching what is learnt is combined anew: draws at a
time, recomputation, where weights and windows wait, and the precision. Of what fits into the memory
that is really free, the least loss comes first, then the least time. Streaming is the last resort.
Nothing is chosen that takes longer than presets/budgets.toml allows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from blockskip.core import stages
from blockskip.core.presets import fallback_table, model_row
from blockskip.core.settings import ExecutionPlan, Settings
from blockskip.memory.planning.duration import run_seconds, usual_rates
from blockskip.memory.planning.request import PlanRequest, precisions
from blockskip.memory.planning.requirements import stage_memory
from blockskip.memory.planning.search import divisors

# Out-of-memory errors that do not come from torch's allocator: allocations by CUDA's libraries are
# outside torch's limit.
_OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
# cuDNN finds no algorithm that fits, cuBLAS cannot start: also said by a broken driver, and by a
# card for which there is no kernel
_PERHAPS_OUT_OF_MEMORY = ("unable to find an engine", "CUBLAS_STATUS_NOT_INITIALIZED")
SHORT_GIB = 1.0  # with more room than this on the card, such errors mean something else


def is_out_of_memory(error: BaseException, room_gib: Callable[[], float]) -> bool:
    """Return whether an error means that the GPU has too little memory.

    room_gib: returns what could still be allocated, in GiB; asked where the words are ambiguous.
    Call this while the error is handled, since its traceback holds the memory that was in use.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
        return True
    return is_ambiguous(error) and room_gib() < SHORT_GIB


def is_ambiguous(error: BaseException) -> bool:
    """Return whether an error may mean too little GPU memory, or that the GPU does not work."""
    text = str(error)
    return isinstance(error, RuntimeError) and any(each in text for each in _PERHAPS_OUT_OF_MEMORY)


@dataclass(frozen=True)
class _Candidate:
    """Settings that take less memory in the stage. rank: smaller is better."""

    settings: Settings
    rank: tuple


def next_fallback(
    settings: Settings,
    stage: str,
    free_gib: float = math.inf,
    planned: Settings | None = None,
    system: str = "",
) -> tuple[Settings, str] | None:
    """Return settings with which `stage` takes less memory, and a description of the change.

    stage: latents | residuals | train | preview. free_gib: free on the GPU without this run.
    planned: the run's first settings, whose time limits that of the result. system: see
    make_plan. None if nothing is left that fits and does not take too long.
    """
    request = PlanRequest(settings=settings, free_gib=free_gib, system=system)
    first = (planned or settings).changed(steps=settings.steps)
    found = [
        candidate
        for tried in _smaller(settings, stage, system)
        if (candidate := _judged(request, stage, tried, first))
    ]
    best = min(found, key=lambda candidate: candidate.rank, default=None)
    return (best.settings, describe(settings, best.settings)) if best else None


def least_ram(
    settings: Settings, stage: str, shared: bool, planned: Settings
) -> tuple[Settings, str] | None:
    """Return the settings with which `stage` takes the least RAM, and a description of the change.

    stage: any; outside of the planned ones, only what all of them hold can be less. shared: whether
    the device's memory is RAM. planned: as for `next_fallback`. The precision stays. None if nothing
    takes less RAM.
    """
    row, now = model_row(settings.model), settings.plan.precision
    tried = [settings.changed(ram_weights_gib=0.0)]
    if shared:
        for base in (settings, *tried[:1]):
            tried += [each for each in _smaller(base, stage, "") if each.plan.precision == now]

    def gib(each: Settings) -> float:
        needs = stage_memory(row, each)
        sizes = {name: need.ram_gib + shared * need.vram_gib for name, need in needs.items()}
        return sizes.get(stage, max(sizes.values()))

    rates = usual_rates()
    longest = fallback_table()["slowest"] * run_seconds(row, planned, rates)
    before = gib(settings)
    less = [each for each in tried if gib(each) < before]
    less = [each for each in less if run_seconds(row, each, rates) <= longest]
    best = min(less, key=lambda each: (gib(each), run_seconds(row, each, rates)), default=None)
    return (best, describe(settings, best)) if best else None


def _judged(
    request: PlanRequest, stage: str, tried: Settings, planned: Settings
) -> _Candidate | None:
    """Return a candidate, None if it does not help, does not fit, or takes too long."""
    row, now = model_row(tried.model), request.settings
    before, after = stage_memory(row, now), stage_memory(row, tried)
    need, had = after[stage].vram_gib, before[stage].vram_gib
    if need >= had or need > request.usable_gib:
        return None
    for name in stages.PLANNED:  # the others may take no more than they may, or did
        if after[name].vram_gib > max(request.usable_gib, before[name].vram_gib):
            return None
        if after[name].ram_gib > max(request.usable_ram_gib, before[name].ram_gib):
            return None
    table, rates = fallback_table(), usual_rates()
    times = run_seconds(row, tried, rates) / run_seconds(row, planned, rates)
    if times > table["slowest"]:
        return None
    fields = vars(tried.plan).keys() - {"accumulation"}  # follows from the batch
    changes = sum(getattr(tried.plan, name) != getattr(now.plan, name) for name in fields)
    order = precisions("Linux").index(tried.plan.precision)
    streamed = tried.plan.middle == "streamed"
    enough = need <= table["less"] * had
    return _Candidate(tried, (not enough, streamed, order, round(times, 3), changes, -need))


def _smaller(s: Settings, stage: str, system: str) -> Iterator[Settings]:
    """Yield settings that may take less memory in `stage` and learn the same."""
    plan = s.plan
    if stage == stages.LATENTS:
        yield from (s.changed(encode_batch=batch) for batch in _halves(plan.encode_batch)[1:])
    if stage == stages.PREVIEW:
        for batch, tiled in itertools.product((plan.preview_batch, 1), (plan.preview_tiled, True)):
            yield s.changed(preview_batch=batch, preview_tiled=tiled)
    if stage not in (stages.RESIDUALS, stages.TRAIN):
        return
    bits = precisions(system)
    fewer = bits[bits.index(plan.precision) :] if plan.precision in bits else [plan.precision]
    kept = dict.fromkeys((plan.ram_weights_gib, 0.0))
    for precision, kept_gib in itertools.product(fewer, kept):
        both = s.changed(precision=precision, ram_weights_gib=kept_gib)
        yield from _windows(both) if stage == stages.RESIDUALS else _steps(both)


def _windows(s: Settings) -> Iterator[Settings]:
    middles = dict.fromkeys(
        (s.plan.middle, "leaves" if s.plan.middle == "stays" else s.plan.middle)
    )
    on_card = dict.fromkeys((s.plan.window_on_card, 0))
    for draws, window, middle in itertools.product(_halves(s.plan.micro_batch), on_card, middles):
        yield s.changed(micro_batch=draws, window_on_card=window, middle=middle)


def _steps(s: Settings) -> Iterator[Settings]:
    draws = s.plan.draws_per_step
    batches = [batch for batch in divisors(draws) if batch <= s.plan.batch]
    trained = model_row(s.model).num_blocks - s.plan.front - s.plan.back
    now = min(s.plan.recomputed, trained - 1)
    again = [*range(now, trained - 1, max(1, trained // 8)), trained - 1]
    for batch in batches:
        fewer = s.changed(batch=batch, accumulation=draws // batch)
        yield from (fewer.changed(recomputed=num) for num in again)
        yield fewer.changed(recomputed=trained, middle="streamed")


def _halves(number: int) -> list[int]:
    return [number // 2**i for i in range(number.bit_length())]


def describe(before: Settings, after: Settings) -> str:
    """Return what `after` does to take less memory than `before`, as clauses."""
    return "; ".join(_clauses(before.plan, after.plan))


def _clauses(old: ExecutionPlan, new: ExecutionPlan) -> Iterator[str]:
    def differs(*names: str) -> bool:
        return any(getattr(old, name) != getattr(new, name) for name in names)

    said: Sequence[tuple[bool, str]] = (
        (differs("encode_batch"), "fewer crops are encoded at a time"),
        (differs("micro_batch"), f"{new.micro_batch} draws at a time pass the skipped blocks"),
        (differs("window_on_card"), "a window waits in RAM while it is computed"),
        (
            differs("middle") and new.middle == "leaves",
            "trained blocks leave the card between steps and windows",
        ),
        (
            differs("batch"),
            f"{new.batch} draws at a time instead of {old.batch}, as many a step",
        ),
        (differs("recomputed"), "more of each step is computed twice"),
        (
            differs("precision"),
            f"frozen weights have {'8' if new.precision == 'int8' else '4'} bits, which costs a "
            "little likeness",
        ),
        (
            differs("middle") and new.middle == "streamed",
            "trained blocks come to the card one by one, in every step",
        ),
        (differs("ram_weights_gib"), "waiting weights are read from their files each time"),
        (differs("preview_batch"), "pictures are sampled one at a time"),
        (differs("preview_tiled"), "pictures are decoded in tiles"),
    )
    return (words for holds, words in said if holds)
