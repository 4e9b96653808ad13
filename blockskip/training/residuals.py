"""A window of draws → what the skipped blocks would have computed (docs/method.md §1.3, §1.4).

The whole window goes through the full model once, layer by layer, with the current LoRA active, so
that the back's residual is fresh and every weight is brought once. Stored for each draw: f_n
(exact), Δ of the back's image stream, and the middle's modulation vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from blockskip.memory.block_wrappers import Layerwise, NamedArgsBlock
from blockskip.memory.layerwise import layerwise, listed_embedders, offload_side_modules
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.base import Family, Text
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Span:
    """Blocks [0, front) and [N - back, N) are skipped, the middle is trained."""

    front: int
    back: int

    def middle(self, num_blocks: int) -> range:
        return range(self.front, num_blocks - self.back)


@dataclass(frozen=True)
class WindowInputs:
    """What a window's draws are made of: x_t, latents of W draws; their captions, W rows; t (W,)."""

    noisy: Tensor
    text: Text
    t: Tensor
    side_px: int
    guidance: bool

    def __len__(self) -> int:
        return len(self.t)

    def __add__(self, others: WindowInputs) -> WindowInputs:
        """These draws and then the others."""
        return WindowInputs(
            torch.cat([self.noisy, others.noisy]),
            Text.cat([self.text, others.text]),
            torch.cat([self.t, others.t]),
            self.side_px,
            self.guidance,
        )


def modulation_names(model: nn.Module, family: Family, span: Span) -> list[str]:
    """Full names of the middle's modulation layers; under these names windows store their
    outputs."""
    blocks = family.blocks(model)
    return [
        f"{name}.{linear}"
        for name, block in (blocks[i] for i in span.middle(len(blocks)))
        for linear in family.modulation(block)
    ] + list(family.shared_modulation)


class _RecordingBlock(NamedArgsBlock):
    """A block that tells what it gives, on its way through the window."""

    def __init__(self, module: nn.Module, after: Callable[[Outputs], None]) -> None:
        super().__init__(module)
        self.module, self.after = module, after

    def run(self, given: dict) -> Outputs:
        outputs = self.module(**given)
        self.after(outputs)
        return outputs


class PriorPass:
    """Draws that go through every block while a window has it here, under another LoRA.

    So what the untrained model says of them costs no second reading of the weights (docs/method.md §1.4);
    the digits are those of `full_velocity`. lora_context(name): a context in which the LoRA of the
    block of that name is the other one. velocity: latents of P draws on the CPU, once the window is
    computed.
    """

    def __init__(
        self, inputs: WindowInputs, lora_context: Callable[[str], AbstractContextManager]
    ) -> None:
        self.inputs, self.lora_context = inputs, lora_context
        self.active = False
        self.velocity = torch.empty(0)
        self._last: tuple[Tensor | None, ...] = ()

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """Inside, these draws pass block `name`, which is here."""
        self.active = True
        try:
            with self.lora_context(name):
                yield
        finally:
            self.active = False

    def store_outputs(self, outputs: Outputs) -> None:
        """The last block's outputs for a window's draws and then these."""
        num = len(self.inputs)
        self._last = tuple(
            None if stream is None else stream[-num:].to("cpu", copy=True)
            for stream in as_tuple(outputs)
        )

    def finish(self, model: nn.Module, family: Family, layers: dict[str, Layerwise]) -> None:
        """Let the library's forward finish from what the last of `layers` gave."""
        last, layer = list(layers.items())[-1]
        stops: dict[str, nn.Module] = {
            name: IdentityBlock(other, other.streams) for name, other in layers.items()
        }
        stops[last] = _ConstantBlock(layer, self._last)
        # nobody reads theirs
        stops |= {name: nn.ModuleList() for name in listed_embedders(model, family)}
        with (
            replace_modules(model, stops),
            offload_side_modules(model, layer.micro_batch, layer.device),
        ):
            self.velocity = _run(model, family, self.inputs).cpu()
        self._last = ()


class _StopForward(Exception):
    """The rest of the library's forward is not wanted: what the head makes of a window is nobody's,
    and takes as much room as an image stream."""


class IdentityBlock(NamedArgsBlock):
    """A skipped block: every stream goes on as it came."""

    def __init__(self, block: nn.Module, streams: Streams) -> None:
        super().__init__(block)
        self.streams = streams

    def run(self, given: dict) -> Outputs:
        return self.streams.identity_output(given)


class _ConstantBlock(NamedArgsBlock):
    """Stands for a block: gives the streams that are known."""

    def __init__(self, block: nn.Module, known: tuple[Tensor | None, ...]) -> None:
        super().__init__(block)
        self.outputs = known

    def run(self, given: dict) -> Outputs:
        return from_tuple(self.outputs)


@torch.no_grad()
def compute_window(
    model: nn.Module,
    family: Family,
    span: Span,
    inputs: WindowInputs,
    micro_batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
    prior_pass: PriorPass | None = None,
    on_card: bool = True,
) -> dict[str, Tensor]:
    """Features of every draw of a window, on the CPU; W rows each.

    Returns `noisy` (x_t), `t`; `front.0`, … (what the last block of the front gives) when span.front >
    0; `back` (W, T, D) when span.back > 0; and what each modulation layer of the middle gives,
    (W, …), under its name. Captions are not in it. progress(n, total) is called after each block.
    prior_pass: draws that pass on the same occasion. on_card: what the draws are between two blocks
    waits on `device`, else in RAM.
    """
    window: dict[str, Tensor] = {"noisy": inputs.noisy, "t": inputs.t}
    wrapped = layerwise(model, family, micro_batch, device, device if on_card else CPU)
    layers = {name: wrapped[name] for name, _ in family.blocks(model)}
    if prior_pass:
        for name, layer in layers.items():
            layer.tail_context = len(prior_pass.inputs), partial(prior_pass.block, name)
    recorded = _recording_blocks(layers, window, family, span, progress, prior_pass)
    with ExitStack() as stack:
        modulation = _record_modulation(stack, model, family, span, prior_pass)
        stack.enter_context(replace_modules(model, wrapped | recorded))
        stack.enter_context(on_device(device, model))
        everything = inputs + prior_pass.inputs if prior_pass else inputs
        with offload_side_modules(model, micro_batch, device), suppress(_StopForward):
            _run(model, family, everything)
        del everything
        if prior_pass:
            prior_pass.finish(model, family, layers)
    window |= {name: torch.cat(parts)[: len(inputs)] for name, parts in modulation.items()}
    return window


def _recording_blocks(
    layers: dict[str, Layerwise],
    window: dict[str, Tensor],
    family: Family,
    span: Span,
    progress: Callable[[int, int], None],
    prior_pass: PriorPass | None,
) -> dict[str, nn.Module]:
    """The blocks, which write what training needs of their streams into `window` as it passes."""
    middle, rows = span.middle(len(layers)), len(window["t"])
    streams = [layer.streams for layer in layers.values()]

    def record_front(outputs: Outputs) -> None:
        # copies: the blocks that follow write over what they are given, and only the last ends any
        for i, stream in enumerate(as_tuple(outputs)):
            window[f"front.{i}"] = cast(Tensor, stream)[:rows].to("cpu", copy=True)

    def image(n: int, outputs: Outputs) -> Tensor:
        return streams[n - 1].image(outputs, _image_tokens(window["noisy"]))[:rows]

    def after(n: int, outputs: Outputs) -> None:
        """n blocks are done."""
        if n == span.front:
            record_front(outputs)
        if n == middle.stop and span.back:
            window["back"] = image(n, outputs).to("cpu", copy=True)
        if n == len(layers) and span.back:
            # draw by draw: in float32 a whole window would take twice the room that is planned
            for row, end in zip(window["back"], image(n, outputs), strict=True):
                row.copy_(end.cpu().float() - row.float())
        progress(n, len(layers))
        if n == len(layers):
            if prior_pass:
                prior_pass.store_outputs(outputs)
            raise _StopForward

    return {
        name: _RecordingBlock(layer, partial(after, n))
        for n, (name, layer) in enumerate(layers.items(), 1)
    }


def _image_tokens(noisy: Tensor) -> int:
    """T of packed latents (B, T, C). Of (B, C, H, W) nobody asks: their models have no text tokens
    in the same stream."""
    return noisy.shape[1]


@torch.no_grad()
def full_velocity(
    model: nn.Module, family: Family, inputs: WindowInputs, micro_batch: int, device: torch.device
) -> Tensor:
    """v of the full model with the LoRA as it is now, layer-major, latents on the CPU."""
    wrapped = layerwise(model, family, micro_batch, device)
    with (
        replace_modules(model, wrapped),
        on_device(device, model),
        offload_side_modules(model, micro_batch, device),
    ):
        return _run(model, family, inputs).cpu()


def _run(model: nn.Module, family: Family, inputs: WindowInputs) -> Tensor:
    """One forward of the library's model, whatever stands in it now."""
    given = family.inputs(inputs.noisy, inputs.text, inputs.t, inputs.side_px, inputs.guidance)
    return family.velocity(model(**given))


def _record_modulation(
    stack: ExitStack, model: nn.Module, family: Family, span: Span, prior_pass: PriorPass | None
) -> dict[str, list[Tensor]]:
    """Hooks that keep, micro-batch by micro-batch, what the middle's modulation layers give."""
    kept: dict[str, list[Tensor]] = {}
    for name in modulation_names(model, family, span):
        kept[name] = []
        handle = model.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, parts=kept[name]: (
                None if prior_pass and prior_pass.active else parts.append(output.cpu())
            )
        )
        stack.callback(handle.remove)
    return kept
