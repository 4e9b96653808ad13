"""Compute the skipped blocks' features for a window of draws (docs/method.md §1.3, §1.4).

The whole window passes through the full model once, layer by layer, with the current LoRA active.
The back's residual is therefore fresh, and every weight is copied to the device once. Stored per
draw: f_n (exact), Δ of the back's image stream, and the middle's modulation vectors.

Shapes: W draws per window, B per micro-step, P prior-preservation draws, T image tokens, width D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blockskip.memory.block_wrappers import Layerwise, NamedArgsBlock
from blockskip.memory.layerwise import layerwise, listed_embedders, offload_side_modules
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.base import Family, Text
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple
from blockskip.training.front_output import stored_front

if TYPE_CHECKING:
    from diffusers import ModelMixin

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Span:
    """The division of N blocks: [0, front) and [N - back, N) are skipped, the middle is trained."""

    front: int
    back: int

    @property
    def skips(self) -> bool:
        """Whether any block is skipped."""
        return self.front + self.back > 0

    def middle(self, num_blocks: int) -> range:
        """Return the indices of the trained blocks; N = `num_blocks`."""
        return range(self.front, num_blocks - self.back)


@dataclass(frozen=True)
class WindowInputs:
    """The model's inputs for W draws: x_t (latents, W rows), their captions (W rows) and t (W,)."""

    noisy: Tensor
    text: Text
    t: Tensor
    side_px: int

    def __len__(self) -> int:
        return len(self.t)

    @staticmethod
    def cat(parts: Sequence[WindowInputs]) -> WindowInputs:
        """Concatenate the draws of one model."""
        return WindowInputs(
            torch.cat([part.noisy for part in parts]),
            Text.cat([part.text for part in parts]),
            torch.cat([part.t for part in parts]),
            parts[0].side_px,
        )


def modulation_names(model: nn.Module, family: Family, span: Span) -> list[str]:
    """Return the full names of the middle's modulation layers, the keys of their stored outputs.
    None are stored if nothing is skipped."""
    if not span.skips:
        return []
    blocks = family.blocks(model)
    return [
        f"{name}.{linear}"
        for name, block in (blocks[i] for i in span.middle(len(blocks)))
        for linear in family.modulation(block)
    ] + list(family.shared_modulation)


class _RecordingBlock(NamedArgsBlock):
    """A block that passes its outputs to the callback `after`."""

    def __init__(self, module: nn.Module, after: Callable[[Outputs], None]) -> None:
        super().__init__(module)
        self.module, self.after = module, after

    def run(self, block_kwargs: dict) -> Outputs:
        outputs = self.module(**block_kwargs)
        self.after(outputs)
        return outputs


class PriorPass:
    """Prior-preservation samples, run through each block while it is on the device.

    They use the untrained LoRA and need no second reading of the weights (docs/method.md §1.4).
    `velocity` holds the result once the window is computed: latents of P draws, on the CPU,
    equal to `full_velocity`. lora_context(name): context manager that sets the untrained LoRA in
    block `name`. rows: these draws' rows in the window, if they are among its own; the front, which
    has no LoRA, then runs them once.
    """

    def __init__(
        self,
        inputs: WindowInputs,
        lora_context: Callable[[str], AbstractContextManager],
        rows: Sequence[int] = (),
    ) -> None:
        self.inputs, self.lora_context, self.rows = inputs, lora_context, list(rows)
        self.active = False
        self.velocity = torch.empty(0)
        self._last: tuple[Tensor | None, ...] = ()

    def install(self, layers: dict[str, Layerwise], front: int) -> None:
        """Let the last draws of the layers' passes be these. front: layers without a LoRA."""
        for n, (name, layer) in enumerate(layers.items()):
            layer.tail_context = len(self.inputs), partial(self.block, name)
            layer.tail_copies = self.rows if n < front else []

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """Context manager in which these draws pass block `name`, which is on the device."""
        self.active = True
        try:
            with self.lora_context(name):
                yield
        finally:
            self.active = False

    def store_outputs(self, outputs: Outputs) -> None:
        """Store the last P rows of the last block's outputs; the rows before are the window's."""
        num = len(self.inputs)
        self._last = tuple(
            None if stream is None else stream[-num:].to("cpu", copy=True)
            for stream in as_tuple(outputs)
        )

    def finish(self, model: nn.Module, family: Family, layers: dict[str, Layerwise]) -> None:
        """Compute `velocity`: run diffusers' forward from the last layer's stored outputs."""
        last, layer = list(layers.items())[-1]
        stops: dict[str, nn.Module] = {
            name: IdentityBlock(other, other.streams) for name, other in layers.items()
        }
        stops[last] = _ConstantBlock(layer, self._last)
        # their outputs are unused
        stops |= {name: nn.ModuleList() for name in listed_embedders(model, family)}
        with (
            replace_modules(model, stops),
            offload_side_modules(model, layer.micro_batch, layer.device),
        ):
            self.velocity = _run(model, family, self.inputs).cpu()
        self._last = ()


class _StopForward(Exception):
    """Raised to stop diffusers' forward early.

    The head's output is unused and as large as the image stream.
    """


class IdentityBlock(NamedArgsBlock):
    """A skipped block: returns every stream unchanged."""

    def __init__(self, block: nn.Module, streams: Streams) -> None:
        super().__init__(block)
        self.streams = streams

    def run(self, block_kwargs: dict) -> Outputs:
        return self.streams.identity_output(block_kwargs)


class _ConstantBlock(NamedArgsBlock):
    """Replaces a block and returns stored streams."""

    def __init__(self, block: nn.Module, outputs: tuple[Tensor | None, ...]) -> None:
        super().__init__(block)
        self.outputs = outputs

    def run(self, block_kwargs: dict) -> Outputs:
        return from_tuple(self.outputs)


@torch.no_grad()
def compute_window(
    model: ModelMixin,
    family: Family,
    span: Span,
    inputs: WindowInputs,
    micro_batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
    prior_pass: PriorPass | None = None,
    on_card: bool = True,
) -> dict[str, Tensor]:
    """Compute the features of every draw of a window, on the CPU, W rows each.

    Returns `noisy` (x_t) and `t`; `front.0`, … (the outputs of the front's last block,
    front_output.py) if span.front > 0; `back` (Δ, (W, T, D)) if span.back > 0; and the output
    (W, …) of each of the middle's modulation layers under the layer's name. Captions are not
    included.
    If nothing is skipped, `noisy` and `t` suffice, and only draws of `prior_pass`, which share the
    pass, are run. progress(n, total) is called after each block. on_card: keep the streams between
    two blocks on `device` instead of in RAM.
    """
    window: dict[str, Tensor] = {"noisy": inputs.noisy, "t": inputs.t}
    passing = [inputs] * span.skips + ([prior_pass.inputs] if prior_pass else [])
    if not passing:
        return window
    wrapped = layerwise(model, family, micro_batch, device, device if on_card else CPU)
    layers = {name: wrapped[name] for name, _ in family.blocks(model)}
    if prior_pass:
        prior_pass.install(layers, span.front)
    recorded = _recording_blocks(layers, window, inputs, family, span, progress, prior_pass)
    with ExitStack() as stack:
        modulation = _record_modulation(stack, model, family, span, prior_pass)
        stack.enter_context(replace_modules(model, wrapped | recorded))
        stack.enter_context(on_device(device, model))
        with offload_side_modules(model, micro_batch, device), suppress(_StopForward):
            _run(model, family, WindowInputs.cat(passing))
        window |= {name: _per_draw(torch.cat(parts), passing) for name, parts in modulation.items()}
        if prior_pass:
            prior_pass.finish(model, family, layers)
    return window


def _per_draw(rows: Tensor, passing: Sequence[WindowInputs]) -> Tensor:
    """Return the rows of the window's draws, which pass first. A row after those of all draws that
    passed, which is each one's (memory/block_wrappers.py), is stored with every draw, (W, 2, …)."""
    own, passed = rows[: len(passing[0])], sum(len(part) for part in passing)
    return own if len(rows) <= passed else torch.stack([own, rows[passed:].expand_as(own)], 1)


def _recording_blocks(
    layers: dict[str, Layerwise],
    window: dict[str, Tensor],
    inputs: WindowInputs,
    family: Family,
    span: Span,
    progress: Callable[[int, int], None],
    prior_pass: PriorPass | None,
) -> dict[str, nn.Module]:
    """Wrap the blocks so that they record the features a training step needs in `window`."""
    middle, tokens = span.middle(len(layers)), _image_tokens(inputs.noisy)
    streams = [layer.streams for layer in layers.values()]

    def image(n: int, outputs: Outputs) -> Tensor:
        return streams[n - 1].image(outputs, tokens)[: len(inputs)]

    def after(n: int, outputs: Outputs) -> None:
        """Record the outputs of block n, counted from 1."""
        if n == span.front:
            once = family.text_is_static
            window.update(stored_front(outputs, inputs.text, streams[n - 1], tokens, once))
        if n == middle.stop and span.back:
            window["back"] = image(n, outputs).to("cpu", copy=True)
        if n == len(layers) and span.back:
            # draw by draw: a whole window in float32 would take twice the planned memory
            for before, end in zip(window["back"], image(n, outputs), strict=True):
                before.copy_(_within(end.cpu().float() - before.float(), before.dtype))
        progress(n, len(layers))
        if n == len(layers):
            if prior_pass:
                prior_pass.store_outputs(outputs)
            raise _StopForward

    return {
        name: _RecordingBlock(layer, partial(after, n))
        for n, (name, layer) in enumerate(layers.items(), 1)
    }


def _within(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor clipped to what `dtype` holds, as float16 may not hold a difference."""
    largest = torch.finfo(dtype).max
    return tensor.clamp(-largest, largest)


def _image_tokens(noisy: Tensor) -> int:
    """Return T of packed latents (B, T, C).

    Unused for (B, C, H, W): those models have no text tokens in the image stream.
    """
    return noisy.shape[1]


@torch.no_grad()
def full_velocity(
    model: ModelMixin, family: Family, inputs: WindowInputs, micro_batch: int, device: torch.device
) -> Tensor:
    """Compute v with the full model and its current LoRA, layer by layer. Latents on the CPU."""
    wrapped = layerwise(model, family, micro_batch, device)
    with (
        replace_modules(model, wrapped),
        on_device(device, model),
        offload_side_modules(model, micro_batch, device),
    ):
        return _run(model, family, inputs).cpu()


def _run(model: ModelMixin, family: Family, inputs: WindowInputs) -> Tensor:
    """Run diffusers' forward once, with the wrappers that are installed in `model`."""
    model_kwargs = family.inputs(model.config, inputs.noisy, inputs.text, inputs.t, inputs.side_px)
    return family.predict(model, model_kwargs)


def _record_modulation(
    stack: ExitStack, model: nn.Module, family: Family, span: Span, prior_pass: PriorPass | None
) -> dict[str, list[Tensor]]:
    """Register hooks that store the middle's modulation outputs, one tensor per micro-batch.

    A block's layers only keep them: it may be compiled, with one graph for all of its kind
    (memory/compiled_blocks.py). The block's own hook, outside the graph, stores them.
    """
    names = modulation_names(model, family, span)
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def store(found: dict[str, nn.Module], *_: object) -> None:
        for name, layer in found.items():
            output = layer.__dict__.pop("kept")
            if not (prior_pass and prior_pass.active):
                outputs[name].append(output.cpu())

    layers = {name: model.get_submodule(name) for name in names}
    for layer in layers.values():
        stack.callback(layer.register_forward_hook(_keep).remove)
    for owner in {name for name, _ in family.blocks(model)} | set(family.shared_modulation):
        inside = {n: layer for n, layer in layers.items() if f"{n}.".startswith(f"{owner}.")}
        if inside:
            module = model.get_submodule(owner)
            stack.callback(module.register_forward_hook(partial(store, inside)).remove)
    return outputs


def _keep(layer: nn.Module, _: object, output: Tensor) -> None:
    vars(layer)["kept"] = output
