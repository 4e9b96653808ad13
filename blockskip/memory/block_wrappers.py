"""How blocks take their turns: each is brought once, everything there is goes through it, it leaves.

`Layerwise` is docs/method.md §1.4b: the library's forward runs once with a whole window as its batch,
and each block, wrapped by it, is brought once and loops over micro-batches of draws. What the draws
are between two blocks waits on the device or, where the budget is small, in RAM.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.memory.placement import streamed_block
from blockskip.memory.streaming import host_empty
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple

CHUNK_ROWS = 4096  # rows of a matrix that pass a module beside the blocks at a time


class NamedArgsBlock(nn.Module, ABC):
    """A module in the place of a block: `run` gets the block's arguments by name, whether the
    library gives them by name or by position."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        own = tuple(inspect.signature(block.forward).parameters)
        self.names: tuple[str, ...] = block.names if isinstance(block, NamedArgsBlock) else own

    def forward(self, *given: Any, **more: Any) -> Outputs:
        return self.run(dict(zip(self.names, given, strict=False)) | more)

    @abstractmethod
    def run(self, given: dict) -> Outputs:
        """What the block would give for its arguments."""


class Layerwise(NamedArgsBlock):
    """A block that is brought to `device` once and takes its batch a few draws at a time.

    batched: names of arguments with one row a draw (…, rows first); others are passed whole.
    streams: those of them that the block gives anew; they are written over, so that a window is
    there only once. output_device: where they are afterwards, on `device` or in RAM; None: where
    they are given. next_block: the block that works next. tail_context: (how many, context): the
    last so many draws pass by themselves, inside the context. A block in a wrapper of this module
    is not among the wrapper's parts: `on_device` and `pin_on_device` of the model around it leave
    its weights where they are.
    """

    def __init__(
        self,
        block: nn.Module,
        micro_batch: int,
        batched: Sequence[str],
        streams: Streams,
        device: torch.device,
        next_block: nn.Module | None = None,
        output_device: torch.device | None = None,
    ) -> None:
        super().__init__(block)
        self._block, self._next_block = (block,), (next_block,)  # in tuples: no parts of this one
        self.micro_batch, self.batched, self.device = micro_batch, tuple(batched), device
        self.streams, self.output_device = streams, output_device
        self.tail_context: tuple[int, Callable[[], AbstractContextManager]] | None = None

    def run(self, given: dict) -> Outputs:
        (block,), streams = self._block, as_tuple(self.streams.identity_output(given))
        kept: list[Tensor | None] = [self._room(stream) for stream in streams]
        total, num = len(streams[-1]), self.tail_context[0] if self.tail_context else 0
        with streamed_block(self.device, block, *self._next_block):
            self._through(given, kept, range(total - num))
            if self.tail_context:
                with self.tail_context[1]():
                    self._through(given, kept, range(total - num, total))
        return from_tuple(kept)

    def _room(self, stream: Tensor | None) -> Tensor | None:
        """Where a stream is written to: over itself, if it is where it is to wait."""
        if (
            stream is None
            or self.output_device is None
            or stream.device.type == self.output_device.type
        ):
            return stream
        return torch.empty_like(stream, device=self.output_device)

    def _through(self, given: dict, kept: list[Tensor | None], rows: range) -> None:
        """Draws `rows` through the block; a stream that it ends is None in `kept` from then on."""
        (block,) = self._block
        alike = {n for n in self.batched if isinstance(given.get(n), Tensor)}
        whole = {n: _on(self.device, v) for n, v in given.items() if n not in alike}
        for start in range(rows.start, rows.stop, self.micro_batch):
            some = slice(start, min(start + self.micro_batch, rows.stop))
            parts = as_tuple(block(**{n: _on(self.device, given[n][some]) for n in alike}, **whole))
            for i, (into, part) in enumerate(zip(kept, parts, strict=True)):
                if into is None or part is None:
                    kept[i] = None
                else:
                    into[some] = part
            del parts, part  # or they would stay while the next ones are made


class RowChunked(nn.Module):
    """A module beside the blocks, some rows at a time; what it gives waits in RAM.

    So a window's inputs are never on `device` all at once. Every tensor given (weights aside) whose
    first size is that of the first one is taken apart; it gives a tensor or several.
    """

    def __init__(self, module: nn.Module, micro_batch: int, device: torch.device) -> None:
        super().__init__()
        self.module, self.micro_batch, self.device = module, micro_batch, device

    def forward(self, *given: Any, **more: Any) -> Tensor | tuple[Tensor, ...]:
        total = len(given[0])
        whole: tuple[Tensor, ...] = ()
        # a matrix has a token a row, of all draws one after another (Z-Image), or a vector a draw
        together = CHUNK_ROWS if given[0].dim() == 2 else self.micro_batch

        def rows(value: Any, some: slice) -> Any:
            alike = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
            alike = alike and value.dim() and len(value) == total
            return _on(self.device, value[some] if alike else value)

        for start in range(0, total, together):
            some = slice(start, start + together)
            made = self.module(
                *(rows(value, some) for value in given),
                **{name: rows(value, some) for name, value in more.items()},
            )
            parts = as_tuple(made)
            whole = whole or tuple(self._room(total, part) for part in parts)
            for out, part in zip(whole, parts, strict=True):
                out[some] = part
        return whole if isinstance(made, tuple) else whole[0]

    def _room(self, total: int, part: Tensor) -> Tensor:
        # it may go to and fro with every block
        return host_empty((total, *part.shape[1:]), part.dtype, self.device.type == "cuda")


def _on(device: torch.device, value: Any) -> Any:
    """A tensor, or a tuple of tensors, on `device`; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_on(device, one) for one in value)
    return value


class PerCaptionBlock(nn.Module):
    """A block of a text encoder, brought once; every caption goes through it alone, so that its
    digits are those of the caption encoded by itself.

    Every tensor given whose first size is the number of captions is taken apart. What the block
    gives is the stream, or a tuple that begins with it; whatever else is in it depends on lengths
    only (T5's position bias) and is taken from the first caption.
    """

    def __init__(
        self, block: nn.Module, device: torch.device, next_block: nn.Module | None = None
    ) -> None:
        super().__init__()
        self._block, self.device, self._next_block = (block,), device, (next_block,)
        # whoever collects what the block gives (its model, of hidden states) wants all captions of it
        self._forward_hooks = block._forward_hooks

    def forward(self, hidden: Tensor, *more: Any, **named: Any) -> Any:
        (block,), rows = self._block, hidden.shape[0]

        def row(value: Any, i: int) -> Any:
            whole = not isinstance(value, Tensor) or not value.dim() or value.shape[0] != rows
            return value if whole else value[i : i + 1]

        with streamed_block(self.device, block, *self._next_block):
            parts, rest = [], None
            for i in range(rows):
                made = block.forward(
                    hidden[i : i + 1],
                    *(row(value, i) for value in more),
                    **{name: row(value, i) for name, value in named.items()},
                )
                if isinstance(made, tuple):  # of the others' rest nothing is kept: it may be large
                    made, rest = made[0], made[1:] if rest is None else rest
                parts.append(made)
                del made
        return torch.cat(parts) if rest is None else (torch.cat(parts), *rest)


class StreamedBlock(NamedArgsBlock):
    """A block of the middle that does not stay: brought for its forward and again for its backward,
    where its activations are computed anew. before, after: its neighbours, fetched meanwhile."""

    def __init__(
        self,
        block: nn.Module,
        device: torch.device,
        before: nn.Module | None,
        after: nn.Module | None,
    ) -> None:
        super().__init__(block)
        self._block, self.device = (block,), device
        self._before, self._after = (before,), (after,)

    def run(self, given: dict) -> Outputs:
        (block,) = self._block
        return checkpoint(
            block,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in a block is drawn at random
            context_fn=lambda: (
                streamed_block(self.device, block, *self._after),
                streamed_block(self.device, block, *self._before),
            ),
            **given,
        )


def outer_blocks(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, block) of a text encoder's repeated blocks: its outermost module lists."""
    lists = {n: part for n, part in encoder.named_modules() if isinstance(part, nn.ModuleList)}
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    return [(f"{name}.{i}", block) for name in outer for i, block in enumerate(lists[name])]


def per_caption_blocks(encoder: nn.Module, device: torch.device) -> dict[str, nn.Module]:
    """The repeated blocks of a text encoder by name, each wrapped."""
    from transformers import PreTrainedModel
    from transformers.utils.output_capturing import maybe_install_capturing_hooks

    for part in encoder.modules():
        if isinstance(part, PreTrainedModel):  # later it would not find its blocks in the wrappers
            maybe_install_capturing_hooks(part)
    blocks = outer_blocks(encoder)
    following = [block for _, block in blocks[1:]] + [None]
    return {
        name: PerCaptionBlock(block, device, next_block)
        for (name, block), next_block in zip(blocks, following, strict=True)
    }
