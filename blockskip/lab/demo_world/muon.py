"""Muon with its orthogonalisation split between processes.

torch.optim.Muon works in bfloat16, which is several times slower on a CPU without bf16 hardware,
and processes one matrix at a time.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from blockskip.lab.demo_world import parallel


def orthogonalise(matrices: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Return matrices (n, a, b), a <= b, with nearly orthonormal rows, by Newton-Schulz."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if parallel.fast_bf16(x.device):
        x = x.bfloat16()
    for _ in range(rounds):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, scaled to the size of an AdamW step (0.2 * sqrt(long side))."""

    def __init__(
        self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        """Take ``params`` of two or more dimensions; convolutions count as (out, in * k * k)."""
        super().__init__(
            list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Take one step. Gradients must already be the same on all processes."""
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if ranks > 1 else 0
        for group in self.param_groups:
            shapes: dict[tuple, list] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(tuple(sorted(p.flatten(1).shape)), []).append(p)
            batches = [self._stack(params, group) for params in shapes.values()]
            for batch in batches:
                mine = slice(rank * len(batch) // ranks, (rank + 1) * len(batch) // ranks)
                part = orthogonalise(batch[mine])
                if ranks > 1:
                    batch.zero_()
                batch[mine] = part
            flat = torch.cat([b.reshape(-1) for b in batches])
            if ranks > 1:
                dist.all_reduce(flat)
            self._apply(shapes, flat, group)

    def _stack(self, params: list[torch.Tensor], group: dict) -> torch.Tensor:
        rows = []
        for p in params:
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            nesterov = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
            rows.append(nesterov.mT if nesterov.shape[0] > nesterov.shape[1] else nesterov)
        return torch.stack(rows)

    def _apply(self, shapes: dict[tuple, list], flat: torch.Tensor, group: dict) -> None:
        at = 0
        for (short, long), params in shapes.items():
            for p in params:
                update = flat[at : at + short * long].view(short, long)
                at += short * long
                p.mul_(1 - group["lr"] * group["weight_decay"])
                update = update.mT if len(p) > short else update
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * 0.2 * long**0.5)
