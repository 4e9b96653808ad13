"""Finds settings with less memory for a stage that ran out of it (docs/method.md §1.4b).

Changes that cost only time come first (fewer draws at a time, checkpointing, streaming, the window
in RAM), then precision. Skipped blocks, rank and crops never change, since they affect the result.
"""

from __future__ import annotations

from collections.abc import Iterator

from blockskip.core import stages
from blockskip.core.settings import Settings

# Out-of-memory errors that do not come from torch's allocator: cuDNN finds no algorithm that fits,
# and allocations by CUDA's libraries are outside torch's limit.
_OUT_OF_MEMORY = (
    "unable to find an engine",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
# draws at a time; from here down the window moves to RAM first, since it may be the larger part
SMALL_MICRO_BATCH = 4
_FEWER_BITS = {"full": "int8", "int8": "nf4"}
_BITS = {"int8": "8", "nf4": "4"}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU has too little memory."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def next_fallback(settings: Settings, stage: str) -> tuple[Settings, str] | None:
    """Return settings with which `stage` takes less memory, and a description of the change.

    stage: latents | residuals | train | preview. None if nothing is left to reduce.
    """
    return next(_fallbacks(settings, stage), None)


def _fallbacks(s: Settings, stage: str) -> Iterator[tuple[Settings, str]]:
    if stage == stages.LATENTS and s.plan.encode_batch > 1:
        yield s.changed(encode_batch=s.plan.encode_batch // 2), "fewer crops are encoded at a time"
    if stage == stages.RESIDUALS:
        yield from _window(s)
    if stage == stages.TRAIN:
        yield from _step(s)
    if stage == stages.PREVIEW:
        yield from _sampling(s)
    if stage in (stages.RESIDUALS, stages.TRAIN):
        yield from _precision(s)


def _window(s: Settings) -> Iterator[tuple[Settings, str]]:
    if s.plan.micro_batch > 1 and (
        s.plan.micro_batch > SMALL_MICRO_BATCH or not s.plan.window_on_card
    ):
        fewer = s.plan.micro_batch // 2
        yield s.changed(micro_batch=fewer), f"{fewer} draws at a time pass the skipped blocks"
    if s.plan.window_on_card:
        yield s.changed(window_on_card=0), "a window waits in RAM while it is computed"
    if s.plan.middle == "stays":
        yield s.changed(middle="leaves"), "trained blocks leave the card between steps and windows"


def _step(s: Settings) -> Iterator[tuple[Settings, str]]:
    if s.plan.batch % 2 == 0:
        halved = s.changed(batch=s.plan.batch // 2, accumulation=s.plan.accumulation * 2)
        yield (
            halved,
            f"{halved.plan.batch} draws at a time instead of {s.plan.batch}, as many a step",
        )
    if not s.plan.checkpointing:
        yield s.changed(checkpointing=True), "activations are computed twice instead of kept"
    if s.plan.middle != "streamed":
        streamed = s.changed(middle="streamed", checkpointing=True)
        yield streamed, "trained blocks come to the card one by one, in every step"


def _sampling(s: Settings) -> Iterator[tuple[Settings, str]]:
    if s.plan.preview_batch > 1:
        yield s.changed(preview_batch=1), "pictures are sampled one at a time"
    if not s.plan.preview_tiled:
        yield s.changed(preview_tiled=True), "pictures are decoded in tiles"


def _precision(s: Settings) -> Iterator[tuple[Settings, str]]:
    fewer = _FEWER_BITS.get(s.plan.precision)
    if fewer:
        yield (
            s.changed(precision=fewer),
            f"frozen weights have {_BITS[fewer]} bits, which costs a little likeness",
        )
