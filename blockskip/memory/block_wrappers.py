"""Wrappers that load a block once, run the whole batch through it and release it.

`Layerwise` implements docs/method.md §1.4b. diffusers' forward runs once with a whole window as its
batch; each wrapped block is loaded once and loops over micro-batches of draws. Between two blocks
the draws' hidden states wait on the device or, where the budget is small, in RAM.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.memory.block_buffers import host_empty
from blockskip.memory.placement import streamed_block
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple

CHUNK_ROWS = 4096  # rows of a matrix that a module beside the blocks takes at a time


@cache  # inspection takes longer than the rest of a wrapper, and every step makes some
def _arguments(forward: Callable) -> tuple[str, ...]:
    """Return the names of a block class's arguments."""
    return tuple(inspect.signature(forward).parameters)[1:]


class NamedArgsBlock(nn.Module, ABC):
    """A replacement for a block. `run` receives the block's arguments by name, however diffusers
    passes them. What diffusers reads of a block (`attn.processor`) is the block's."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._replaced = (block,)  # in a tuple: no submodule
        self.names: tuple[str, ...] = (
            block.names if isinstance(block, NamedArgsBlock) else _arguments(type(block).forward)
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "_replaced":  # not initialised yet
                raise
            return getattr(self._replaced[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Outputs:
        return self.run(dict(zip(self.names, args, strict=False)) | kwargs)

    @abstractmethod
    def run(self, block_kwargs: dict) -> Outputs:
        """Return the block's outputs for its arguments."""


class Layerwise(NamedArgsBlock):
    """A block that is loaded to `device` once and processes its batch a few draws at a time.

    batched: names of arguments with one row a draw (`_rows`); others are passed whole. streams:
    the arguments that the block updates. They are overwritten, so that a window exists only once.
    output_device: the outputs' device, `device` or RAM; None: that of the inputs. next_block: the
    block that runs next. tail_context: (count, context): the last `count` draws run separately,
    inside the context; or they are copies of the draws `tail_copies`, if there are any.

    The block is no submodule of its wrapper, here and below, so `on_device` and `pin_on_device` of
    the model do not move its weights.
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
        self._block, self._next_block = (block,), (next_block,)  # in tuples: no submodules
        self.micro_batch, self.batched, self.device = micro_batch, tuple(batched), device
        self.streams, self.output_device = streams, output_device
        self.tail_context: tuple[int, Callable[[], AbstractContextManager]] | None = None
        self.tail_copies: list[int] = []

    def run(self, block_kwargs: dict) -> Outputs:
        (block,), streams = self._block, as_tuple(self.streams.identity_output(block_kwargs))
        outputs: list[Tensor | None] = [self._output(stream) for stream in streams]
        total, num = len(streams[-1]), self.tail_context[0] if self.tail_context else 0
        with streamed_block(self.device, block, *self._next_block):
            self._run_draws(block_kwargs, outputs, range(total - num))
            if self.tail_copies:
                for output in (output for output in outputs if output is not None):
                    output[total - num :] = output[self.tail_copies]
            elif self.tail_context:
                with self.tail_context[1]():
                    self._run_draws(block_kwargs, outputs, range(total - num, total))
        return from_tuple(outputs)

    def _output(self, stream: Tensor | None) -> Tensor | None:
        """Return the stream, to be overwritten, if it is on the output device; else a buffer."""
        if (
            stream is None
            or self.output_device is None
            or stream.device.type == self.output_device.type
        ):
            return stream
        return torch.empty_like(stream, device=self.output_device)

    def _run_draws(self, block_kwargs: dict, outputs: list[Tensor | None], draws: range) -> None:
        """Run `draws` through the block into `outputs`; a stream that ends here becomes None."""
        (block,) = self._block
        split = {n for n in self.batched if isinstance(block_kwargs.get(n), Tensor)}
        shared = {n: _on(self.device, v) for n, v in block_kwargs.items() if n not in split}
        total = len(block_kwargs[self.streams.names[-1]])

        def take(name: str, rows: slice) -> Tensor:
            return _on(self.device, _rows(block_kwargs[name], rows, total))

        for start in range(draws.start, draws.stop, self.micro_batch):
            rows = slice(start, min(start + self.micro_batch, draws.stop))
            parts = as_tuple(block(**{n: take(n, rows) for n in split}, **shared))
            for i, (output, part) in enumerate(zip(outputs, parts, strict=True)):
                if output is None or part is None:
                    outputs[i] = None
                else:
                    output[rows] = part
            del parts, part  # frees them before the next micro-batch


def _rows(value: Tensor, rows: slice, total: int) -> Tensor:
    """Return some of `total` draws' rows. A row after those of all draws is each one's (the t = 0 of
    Qwen-Image-2.1's text) and stays the last."""
    return torch.cat([value[rows], value[total:]]) if len(value) > total else value[rows]


class RowChunked(nn.Module):
    """A module beside the blocks that processes a few rows at a time and returns outputs in RAM.

    A window's inputs are thus never on `device` all at once. Tensor arguments (no parameters) are
    split if they have as many rows as the first one, or one more or less (`_rows`); vectors that are
    no numbers are of tokens. Returns a tensor or a tuple of tensors.
    """

    def __init__(self, module: nn.Module, micro_batch: int, device: torch.device) -> None:
        super().__init__()
        self.module, self.micro_batch, self.device = module, micro_batch, device

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
        total = len(args[0])
        buffers: tuple[Tensor, ...] = ()
        # a matrix has one row a token of all draws, concatenated (Z-Image), or one row a draw
        chunk = CHUNK_ROWS if args[0].dim() == 2 else self.micro_batch

        def select(value: Any, rows: slice) -> Any:
            split = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
            split = split and value.dim() > (not value.is_floating_point())
            split = split and abs(len(value) - total) <= 1
            return _on(self.device, _rows(value, rows, total) if split else value)

        for start in range(0, total, chunk):
            rows = slice(start, min(start + chunk, total))
            output = self.module(
                *(select(value, rows) for value in args),
                **{name: select(value, rows) for name, value in kwargs.items()},
            )
            parts = as_tuple(output)
            buffers = buffers or tuple(self._buffer(total, part) for part in parts)
            for buffer, part in zip(buffers, parts, strict=True):
                buffer[rows] = part
        return buffers if isinstance(output, tuple) else buffers[0]

    def _buffer(self, total: int, part: Tensor) -> Tensor:
        # pinned, since every block may copy it to the device and back
        return host_empty((total, *part.shape[1:]), part.dtype, self.device.type == "cuda")


def _on(device: torch.device, value: Any) -> Any:
    """Move a tensor, or a tuple of tensors, to `device`; return anything else unchanged."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_on(device, item) for item in value)
    return value


class PerCaptionBlock(nn.Module):
    """A text-encoder block that is loaded once and processes one caption at a time.

    The results thus equal those of captions encoded one by one. Tensor arguments, and those in
    tuples (the rotary pair), are split if their first size is the number of captions. The block
    returns the hidden states (B, T, D), or a tuple that begins with them; its other items depend on
    lengths only (T5's position bias) and are taken from the first caption.
    """

    def __init__(
        self, block: nn.Module, device: torch.device, next_block: nn.Module | None = None
    ) -> None:
        super().__init__()
        self._block, self.device, self._next_block = (block,), device, (next_block,)
        # hooks (transformers collects hidden states with them) must see all captions at once
        self._forward_hooks = block._forward_hooks

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        (block,), num = self._block, hidden.shape[0]

        def caption(value: Any, i: int) -> Any:
            if isinstance(value, tuple):
                return tuple(caption(item, i) for item in value)
            shared = not isinstance(value, Tensor) or not value.dim() or value.shape[0] != num
            return value if shared else value[i : i + 1]

        with streamed_block(self.device, block, *self._next_block):
            parts, extras = [], None
            for i in range(num):
                output = block.forward(
                    hidden[i : i + 1],
                    *(caption(value, i) for value in args),
                    **{name: caption(value, i) for name, value in kwargs.items()},
                )
                if isinstance(output, tuple):  # extras may be large: only the first are kept
                    output, extras = output[0], output[1:] if extras is None else extras
                parts.append(output)
                del output
        return torch.cat(parts) if extras is None else (torch.cat(parts), *extras)


class StreamedBlock(NamedArgsBlock):
    """A middle block that is loaded for its forward and again for its backward (checkpointed).

    before, after: its neighbours, prefetched meanwhile.
    """

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

    def run(self, block_kwargs: dict) -> Outputs:
        (block,) = self._block
        return checkpoint(
            block,
            use_reentrant=False,
            preserve_rng_state=False,  # blocks use no random numbers
            context_fn=lambda: (
                streamed_block(self.device, block, *self._after),
                streamed_block(self.device, block, *self._before),
            ),
            **block_kwargs,
        )


def outer_blocks(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return (name, block) of a text encoder's repeated blocks: its outermost module lists."""
    lists = {n: part for n, part in encoder.named_modules() if isinstance(part, nn.ModuleList)}
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    return [(f"{name}.{i}", block) for name in outer for i, block in enumerate(lists[name])]


def per_caption_blocks(encoder: nn.Module, device: torch.device) -> dict[str, nn.Module]:
    """Wrap the repeated blocks of a text encoder; return the wrappers by name."""
    from transformers import PreTrainedModel
    from transformers.utils.output_capturing import maybe_install_capturing_hooks

    for part in encoder.modules():
        if isinstance(part, PreTrainedModel):  # once wrapped, its blocks are hidden from it
            maybe_install_capturing_hooks(part)
    blocks = outer_blocks(encoder)
    following = [block for _, block in blocks[1:]] + [None]
    return {
        name: PerCaptionBlock(block, device, next_block)
        for (name, block), next_block in zip(blocks, following, strict=True)
    }
