"""Models so small that they fit everywhere (the demo): one estimate of a training step is enough.

It knows three kinds of things on the graphics card: the blocks that stay (middle, less their
modulation linears, docs/method.md §1.3), what the head and the embeddings of time need, and activations.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockskip.core.presets import ModelRow
from blockskip.core.settings import Settings
from blockskip.core.units import GIB
from blockskip.memory.planning.reason import Reason, Values
from blockskip.memory.planning.refusal import MemoryTooSmall

_BYTES = {"float32": 4, "bfloat16": 2}
_BASE_GIB = (
    0.6  # allocator, kernels and libraries before the first weight (measured for the demo on a CPU)
)


@dataclass(frozen=True)
class Estimate:
    """Graphics memory of a training step in GiB, by what it is for."""

    weights_gib: float
    activations_gib: float
    lora_gib: float

    @property
    def total_gib(self) -> float:
        return _BASE_GIB + self.weights_gib + self.activations_gib + self.lora_gib


def block_params(row: ModelRow, index: int) -> int:
    """Parameters of block `index` that training keeps: without modulation linears and biases.

    FLUX: a double block has 2 x (4 attention + 8 feed-forward) d², a single one 12 d²  (d = width).
    """
    return (24 if index < row.blocks[0] else 12) * row.width**2


def estimate(
    row: ModelRow, front: int, back: int, *, batch: int, tokens: int, rank: int
) -> Estimate:
    """What a training step takes. tokens: image + text tokens of one draw."""
    middle = range(front, row.num_blocks - back)
    size = _BYTES[row.dtype]
    weights = sum(block_params(row, i) for i in middle) * size + 4 * row.width**2 * size
    # about 34 (28) d numbers are saved a token and block: attention and feed-forward
    activations = (
        sum(34 if i < row.blocks[0] else 28 for i in middle) * batch * tokens * row.width * size
    )
    lora = sum(16 if i < row.blocks[0] else 6 for i in middle) * rank * row.width * 16
    return Estimate(weights / GIB, activations / GIB, lora / GIB)


def step_need(row: ModelRow, settings: Settings, front: int, back: int) -> Estimate:
    """What a training step of these settings takes with other blocks skipped."""
    side = settings.plan.s_max_px if settings.plan.patches == "full" else settings.plan.s_min_px
    return estimate(
        row,
        front,
        back,
        batch=settings.plan.batch,
        tokens=(side // 8) ** 2 + settings.plan.text_tokens,
        rank=settings.rank,
    )


def check_budget(row: ModelRow, settings: Settings) -> None:
    """Raises MemoryTooSmall when a training step does not fit the budget."""
    need = step_need(row, settings, settings.plan.front, settings.plan.back).total_gib
    if settings.budget_gib >= need:
        return
    front, back = row.span(max(float(key) for key in row.spans))
    least = step_need(row, settings.changed(batch=1), front, back).total_gib
    budget: Values = {"budget_gib": settings.budget_gib, "model": row.title, "needs_gib": need}
    blocks = {"front": front, "back": back, "num_blocks": row.num_blocks}
    raise MemoryTooSmall(
        Reason("small_too_small", budget), Reason("small_least", {"least_gib": least, **blocks})
    )
