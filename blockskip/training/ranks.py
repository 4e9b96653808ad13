"""A training step shared by several processes, one on each card (ours; accelerate connects them).

Each computes its draws of every window and of every step with the same LoRA. The gradients are
summed, so that all of them take the same step. Rank 0, the run's worker, alone writes results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blockskip.core.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes that train a run together, by default the only one."""

    rank: int = 0
    size: int = 1

    def own(self, rows: range, per_step: int) -> Sequence[int]:
        """Return this process's draws of a window: its share of each step's. per_step: draws of all
        processes, a multiple of `size`."""
        if self.size == 1:
            return rows
        share = per_step // self.size
        return [row for i, row in enumerate(rows) if i % per_step // share == self.rank]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes. Raises UserError if one has ended."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
        try:
            sums = reduce(flat, "sum").split([tensor.numel() for tensor in tensors])
        except RuntimeError as error:  # the connection is gone
            raise UserError(
                f"One of the {self.size} processes of this training has ended.",
                "Resume continues from the last saved step. The log of each is rank-N.log, beside "
                "worker.log.",
            ) from error
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.detach().copy_(total.view_as(tensor))


ALONE = Ranks()
