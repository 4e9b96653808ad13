"""Key steps: the sampling steps that are computed, chosen once per model and number of steps.

In the other steps the blocks are skipped and their change in the last key step is added again
(docs/method.md §2). The choice by dynamic programming is DPCache's, the measure of loss is ours.

A step cache decides during sampling, from the first block's change. Key steps are known beforehand:
a skipped step loads no block, and few steps are spent where little changes. They have to be
measured on the model (`lab calibrate`). Models without that measurement use a step cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MEASURED_TOKENS = 64  # tokens per image used to measure losses
EARLY = 0.2  # the higher, the smaller the extra weight of early steps


@dataclass(frozen=True)
class KeySteps:
    """A configuration of step_cache_installed.

    steps: the computed steps, always including the first. None computes all and records the
    blocks' change per call in `deltas`, (B, ≤ MEASURED_TOKENS, D), float32 on the CPU.
    """

    steps: frozenset[int] | None
    deltas: list[Tensor] = field(default_factory=list)

    def is_cached_step(self, step: int) -> bool:
        """Return whether the blocks are skipped in `step`, counted from 0."""
        return self.steps is not None and step not in self.steps

    def record(self, added: Tensor) -> None:
        """Record the total change of the image stream in a call, (B, T, D), if `steps` is None."""
        if self.steps is None:
            stride = max(1, added.shape[1] // MEASURED_TOKENS)
            self.deltas.append(added[:, ::stride][:, :MEASURED_TOKENS].float().cpu())


def skip_losses(deltas: Sequence[Tensor], sigmas: Sequence[float]) -> Tensor:
    """Compute the loss of skipping steps, (N, N + 1): [i, j] covers steps i + 1 … j - 1 (ours).

    The skipped steps repeat the change of step i. deltas: of N sampled steps, call by call. sigmas:
    the N + 1 noise levels. A step's loss is the relative error of its change, times the step's
    length, times a weight that grows with noise, since later steps build on an early error.
    """
    num = len(sigmas) - 1
    calls = len(deltas) // num
    steps = [torch.cat([*deltas[k * calls : (k + 1) * calls]]) for k in range(num)]
    lost = torch.zeros(num, num + 1, dtype=torch.float64)
    for i in range(num):
        for k in range(i + 1, num):
            error = (steps[k] - steps[i]).square().mean().sqrt() / steps[k].square().mean().sqrt()
            weight = (sigmas[k] - sigmas[k + 1]) * (EARLY + sigmas[k])
            lost[i, k + 1] = lost[i, k] + weight * error.double()
    return lost


def choose_key_steps(lost: Tensor, num: int) -> tuple[int, ...]:
    """Return the `num` key steps with the least total loss, always including the first step.

    lost: from `skip_losses`. Dynamic programming over the last key step, O(num · N²) (DPCache).
    Raises ValueError unless 1 ≤ num ≤ N.
    """
    steps = len(lost)
    if not 1 <= num <= steps:
        raise ValueError(f"{num} key steps of {steps}")
    best = torch.full((steps,), float("inf"), dtype=torch.float64)
    best[0], predecessors = 0.0, []  # a single key step is the first
    for _ in range(1, num):
        # from each i < j to j
        through = best[:, None] + lost[:, :steps]
        through = through.masked_fill(torch.ones_like(through).tril().bool(), float("inf"))
        best, predecessor = through.min(0)
        predecessors.append(predecessor)
    last = int((best + lost[:, steps]).argmin())
    steps_backwards = [last]
    for predecessor in reversed(predecessors):
        steps_backwards.append(int(predecessor[steps_backwards[-1]]))
    return tuple(reversed(steps_backwards))
