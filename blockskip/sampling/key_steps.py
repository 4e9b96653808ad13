"""Key steps: which sampling steps are computed, chosen once for a model and a number of steps. In the
others the blocks rest, and what they did in the last key step is added again (docs/method.md §2; choosing by
dynamic programming is DPCache's idea, the measure of loss is ours).

A step cache decides while it samples, on what the first block does; key steps are known before: no block
is brought where they rest, and few steps are spent where little happens. But they have to be measured on
the model (`lab calibrate`); where they were not, a step cache is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MEASURED_TOKENS = 64  # tokens of a picture on which losses are measured
EARLY = 0.2  # the higher, the less early steps count for more than late ones


@dataclass(frozen=True)
class KeySteps:
    """What step_cache_installed samples with. steps: those that are computed, the first among them; None: all,
    and `deltas` records what the blocks added in each call, (B, at most MEASURED_TOKENS, D) in float32 in RAM."""

    steps: frozenset[int] | None
    deltas: list[Tensor] = field(default_factory=list)

    def is_cached_step(self, step: int) -> bool:
        """Whether the blocks rest in that step, counted from 0."""
        return self.steps is not None and step not in self.steps

    def record(self, added: Tensor) -> None:
        """What all blocks together added to the image in a call, (B, T, D)."""
        if self.steps is None:
            stride = max(1, added.shape[1] // MEASURED_TOKENS)
            self.deltas.append(added[:, ::stride][:, :MEASURED_TOKENS].float().cpu())


def skip_losses(deltas: Sequence[Tensor], sigmas: Sequence[float]) -> Tensor:
    """What is lost where steps rest, (N, N + 1): at i, j by all steps after i and before j, which do again
    what step i did. deltas: of N sampled steps, call after call; sigmas: the N + 1 noise levels.

    A step's loss is the relative error of what is added, times the way that the step goes, times what an
    error counts that later steps are built on: the more noise there was, the more.
    """
    num = len(sigmas) - 1
    calls = len(deltas) // num
    steps = [torch.cat([*deltas[k * calls : (k + 1) * calls]]) for k in range(num)]
    lost = torch.zeros(num, num + 1, dtype=torch.float64)
    for i in range(num):
        for k in range(i + 1, num):
            error = (steps[k] - steps[i]).square().mean().sqrt() / steps[k].square().mean().sqrt()
            way = (sigmas[k] - sigmas[k + 1]) * (EARLY + sigmas[k])
            lost[i, k + 1] = lost[i, k] + way * error.double()
    return lost


def choose_key_steps(lost: Tensor, num: int) -> tuple[int, ...]:
    """The `num` key steps, the first step among them, by which least is lost in all; of `skip_losses`.
    Dynamic programming over the last key step; O(num · N²). Raises ValueError for more than N."""
    steps = len(lost)
    if not 1 <= num <= steps:
        raise ValueError(f"{num} key steps of {steps}")
    best = torch.full((steps,), float("inf"), dtype=torch.float64)
    best[0], before = 0.0, []  # with one key step, the first
    for _ in range(1, num):
        # to j from each i < j
        through = best[:, None] + lost[:, :steps]
        through = through.masked_fill(torch.ones_like(through).tril().bool(), float("inf"))
        best, came = through.min(0)
        before.append(came)
    last = int((best + lost[:, steps]).argmin())
    found = [last]
    for came in reversed(before):
        found.append(int(came[found[-1]]))
    return tuple(reversed(found))
