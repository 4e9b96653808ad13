"""How blocks take their turns: each is brought once, everything there is goes through it, it leaves.

`Layerwise` is METHOD.md §1.4b: the library's forward runs once with a whole window as its batch,
and each block, wrapped by it, is brought once and loops over micro-batches of draws. What the draws
are between two blocks waits on the device or, where the budget is small, in RAM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.memory.placement import passing
from blockskip.memory.stream import host_empty


class Layerwise(nn.Module):
    """A block that is brought to `device` once and takes its batch a few draws at a time.

    batched: names of keyword inputs with one row a draw (…, rows first); others are passed whole.
    streams: those of them that the block gives anew, in the order it gives them; they are written
    over, so that a window is there only once. They stay where they are given: on `device`, or in
    RAM. ahead: the block that works next. also: what else uses the block while it is here; it is
    given a function from a block's inputs to its outputs. A block in a wrapper of this module is
    not among the wrapper's parts: `resident` and `hold` of the model around it leave its weights
    where they are.
    """

    def __init__(
        self,
        block: nn.Module,
        micro_batch: int,
        batched: Sequence[str],
        streams: Sequence[str],
        device: torch.device,
        ahead: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._block, self._ahead = (block,), (ahead,)  # in tuples: no parts of this one
        self.micro_batch, self.batched, self.device = micro_batch, tuple(batched), device
        self.streams = tuple(streams)
        self.also: Callable[[Callable[[dict], tuple[Tensor, ...]]], None] | None = None

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        (block,) = self._block
        with passing(self.device, block, *self._ahead):
            outputs = self._through(inputs)
            if self.also is not None:
                self.also(self._through)
        return outputs

    def _through(self, inputs: dict) -> tuple[Tensor, ...]:
        (block,), kept = self._block, tuple(inputs[name] for name in self.streams)
        whole = {n: _on(self.device, v) for n, v in inputs.items() if n not in self.batched}
        for start in range(0, len(kept[0]), self.micro_batch):
            some = slice(start, start + self.micro_batch)
            rows = {n: _on(self.device, inputs[n][some]) for n in self.batched if n in inputs}
            for stream, part in zip(kept, block(**rows, **whole), strict=True):
                stream[some] = part
        return kept


class Apart(nn.Module):
    """A module beside the blocks, some rows at a time; what it gives waits on `waits`.

    So a window's inputs, and if wanted its state, are never on `device` all at once. Every tensor
    given whose first size is that of the first one is taken apart; it gives one tensor.
    """

    def __init__(
        self, module: nn.Module, micro_batch: int, device: torch.device, waits: torch.device
    ) -> None:
        super().__init__()
        self.module, self.micro_batch, self.device = module, micro_batch, device
        self.waits = waits

    def forward(self, *inputs: object) -> Tensor:
        total, out = len(inputs[0]), None
        for start in range(0, total, self.micro_batch):
            some = slice(start, start + self.micro_batch)
            part = self.module(
                *(
                    _on(self.device, v[some] if isinstance(v, Tensor) and len(v) == total else v)
                    for v in inputs
                )
            )
            if out is None:
                # in RAM it goes to and fro with every block
                pinned = self.device.type == "cuda" and self.waits.type == "cpu"
                shape = (total, *part.shape[1:])
                if self.waits.type == "cpu":
                    out = host_empty(shape, part.dtype, pinned)
                else:
                    out = torch.empty(shape, dtype=part.dtype, device=self.waits)
            out[some] = part
        return out


def _on(device: torch.device, value: object) -> object:
    """A tensor, or a tuple of tensors, on `device`; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_on(device, one) for one in value)
    return value


class RowByRow(nn.Module):
    """A block of a text encoder, brought once; every caption goes through it alone, so that its
    digits are those of the caption encoded by itself.

    Every tensor given whose first size is the number of captions is taken apart. What the block
    gives is the stream, or a tuple that begins with it; whatever else is in it depends on lengths
    only (T5's position bias) and is taken from the first caption.
    """

    def __init__(
        self, block: nn.Module, device: torch.device, ahead: nn.Module | None = None
    ) -> None:
        super().__init__()
        self._block, self.device, self._ahead = (block,), device, (ahead,)

    def forward(self, hidden: Tensor, *more: object, **named: object) -> object:
        (block,), rows = self._block, hidden.shape[0]

        def row(value: object, i: int) -> object:
            whole = not isinstance(value, Tensor) or not value.dim() or value.shape[0] != rows
            return value if whole else value[i : i + 1]

        with passing(self.device, block, *self._ahead):
            parts = [
                block(
                    hidden[i : i + 1],
                    *(row(value, i) for value in more),
                    **{name: row(value, i) for name, value in named.items()},
                )
                for i in range(rows)
            ]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return (torch.cat([part[0] for part in parts]), *parts[0][1:])


class Streamed(nn.Module):
    """A block of the middle that does not stay: brought for its forward and again for its backward,
    where its activations are computed anew. before, after: its neighbours, fetched meanwhile."""

    def __init__(
        self,
        block: nn.Module,
        device: torch.device,
        before: nn.Module | None,
        after: nn.Module | None,
    ) -> None:
        super().__init__()
        self._block, self.device = (block,), device
        self._before, self._after = (before,), (after,)

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        (block,) = self._block
        return checkpoint(
            block,
            use_reentrant=False,
            context_fn=lambda: (
                passing(self.device, block, *self._after),
                passing(self.device, block, *self._before),
            ),
            **inputs,
        )


def row_by_row(encoder: nn.Module, device: torch.device) -> dict[str, nn.Module]:
    """The repeated blocks of a text encoder (its outermost module lists) by name, each wrapped."""
    lists = [n for n, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    blocks = [
        (f"{name}.{i}", block)
        for name in outer
        for i, block in enumerate(encoder.get_submodule(name))
    ]
    following = [block for _, block in blocks[1:]] + [None]
    return {
        name: RowByRow(block, device, ahead)
        for (name, block), ahead in zip(blocks, following, strict=True)
    }
