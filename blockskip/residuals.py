"""A window of draws → what the skipped blocks would have computed (METHOD.md §1.3, §1.4).

The whole window goes through the full model once, layer by layer, with the current LoRA active, so
that the back's residual is fresh and every weight is brought once. Stored for each draw: f_n
(exact), Δ of the back's image stream, and the middle's modulation vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip import files
from blockskip.families.base import Family
from blockskip.memory.passes import Apart, Layerwise
from blockskip.memory.placement import replaced, resident

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
    """What a window's draws are made of: x_t (W, T, C), text (W, S, ·), pooled (W, ·), t (W,)."""

    noisy: Tensor
    text: Tensor
    pooled: Tensor
    t: Tensor
    side_px: int
    guidance: bool


def modulation_names(model: nn.Module, family: Family, span: Span) -> list[str]:
    """Full names of the middle's modulation linears; under these names windows store their
    outputs."""
    blocks = family.blocks(model)
    return [
        f"{name}.{linear}"
        for name, block in (blocks[i] for i in span.middle(len(blocks)))
        for linear in family.modulation(block)
    ]


class _Recorded(nn.Module):
    """A module that notes what it is given or what it gives, on its way through the window."""

    def __init__(
        self,
        module: nn.Module,
        before: Callable[[dict], None] | None = None,
        after: Callable[[tuple], None] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.before, self.after = module, before, after

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        if self.before:
            self.before(inputs)
        outputs = self.module(**inputs)
        if self.after:
            self.after(outputs)
        return outputs


class Alongside:
    """Draws that go through every block while a window has it here, under another LoRA.

    So what the untrained model says of them costs no second reading of the weights (METHOD.md §1.4);
    the digits are those of `full_velocity`. other_lora(name): a context in which the LoRA of the
    block of that name is the other one. velocity: (P, T, C) on the CPU, once the window is computed.
    What these draws are between two blocks waits in RAM.
    """

    def __init__(
        self, inputs: WindowInputs, other_lora: Callable[[str], AbstractContextManager]
    ) -> None:
        self.inputs, self.other_lora = inputs, other_lora
        self.busy = False
        self.velocity = torch.empty(0)
        self._given: dict = {}  # what the next block takes

    def begin(
        self, model: nn.Module, family: Family, micro_batch: int, device: torch.device
    ) -> None:
        """Find what the first block takes; the library's forward finds it."""
        first = {family.blocks(model)[0][0]: _Asked(self._given)}
        with beside(model, micro_batch, device, CPU), suppress(_Enough):
            _run(model, family, self.inputs, first, device)

    def visit(self, name: str, family: Family, through: Callable[[dict], tuple]) -> None:
        """Pass block `name`, which is here."""
        self.busy = True
        with self.other_lora(name):
            outputs = through(self._given)
        self.busy = False
        self._given["hidden_states"] = outputs[family.image_output]
        self._given["encoder_hidden_states"] = outputs[1 - family.image_output]

    def end(self, model: nn.Module, family: Family, micro_batch: int, device: torch.device) -> None:
        """Let the library's forward finish from what the last block gave."""
        stops = {name: _Streams(self._given, family) for name, _ in family.blocks(model)}
        with beside(model, micro_batch, device, CPU):
            self.velocity = _run(model, family, self.inputs, stops, device).cpu()


class _Enough(Exception):
    """The rest of the library's forward is not wanted: what the head makes of a window is nobody's,
    and takes as much room as an image stream."""


class _Asked(nn.Module):
    """Stands for the first block: keeps what it is given."""

    def __init__(self, given: dict) -> None:
        super().__init__()
        self.given = given

    def forward(self, **inputs: object) -> None:
        self.given.update(inputs)
        raise _Enough


class _Streams(nn.Module):
    """Stands for a block: gives the streams that are kept."""

    def __init__(self, kept: dict, family: Family) -> None:
        super().__init__()
        self.kept, self.family = kept, family

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        streams = (self.kept["hidden_states"], self.kept["encoder_hidden_states"])
        return streams if self.family.image_output == 0 else streams[::-1]


@torch.no_grad()
def compute_window(
    model: nn.Module,
    family: Family,
    span: Span,
    inputs: WindowInputs,
    micro_batch: int,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
    alongside: Alongside | None = None,
    on_card: bool = True,
) -> dict[str, Tensor]:
    """Features of every draw of a window, on the CPU.

    Returns `front.image` (W, T, D), `front.text` (W, S, D) (x_t and embeddings themselves when
    span.front = 0), `pooled` (W, ·), `t` (W,), `back` (W, T, D) when span.back > 0, and one (W,
    k·D) for each modulation linear of the middle under its name. progress(n, total) is called after
    each block. alongside: draws that pass on the same occasion. on_card: what the draws are between two
    blocks waits on `device`, else in RAM.
    """
    window: dict[str, Tensor] = {
        "front.image": inputs.noisy,
        "front.text": inputs.text,
        "pooled": inputs.pooled,
        "t": inputs.t,
    }
    wrapped = layerwise(model, family, micro_batch, device)
    if alongside:
        for name, layer in wrapped.items():
            layer.also = partial(alongside.visit, name, family)
    wrapped = _recorded(wrapped, window, family, span, progress)
    with ExitStack() as stack:
        modulation = _record_modulation(stack, model, family, span, alongside)
        stack.enter_context(replaced(model, wrapped))
        stack.enter_context(resident(device, model))
        if alongside:
            alongside.begin(model, family, micro_batch, device)
        with (
            beside(model, micro_batch, device, device if on_card else CPU),
            suppress(_Enough),
        ):
            _run(model, family, inputs, wrapped, device)
        if alongside:
            alongside.end(model, family, micro_batch, device)
    window |= {name: torch.cat(parts) for name, parts in modulation.items()}
    return window


def _recorded(
    layers: dict[str, nn.Module],
    window: dict[str, Tensor],
    family: Family,
    span: Span,
    progress: Callable[[int, int], None],
) -> dict[str, nn.Module]:
    """The blocks, which write what training needs of their streams into `window` as it passes."""
    middle = span.middle(len(layers))

    def record_front(given: dict) -> None:
        # copies: the blocks that follow write over what they are given
        window["front.image"] = given["hidden_states"].to("cpu", copy=True)
        window["front.text"] = given["encoder_hidden_states"].to("cpu", copy=True)

    def record_back(given: dict) -> None:
        window["back"] = given["hidden_states"].to("cpu", copy=True)

    def after(n: int, outputs: tuple) -> None:
        if n == len(layers) and span.back:
            # draw by draw: in float32 a whole window would take twice the room that is planned
            for row, end in zip(window["back"], outputs[family.image_output], strict=True):
                row.copy_(end.cpu().float() - row.float())
        progress(n, len(layers))
        if n == len(layers):
            raise _Enough

    before = {middle.start: record_front} if span.front else {}
    before |= {middle.stop: record_back} if span.back else {}
    return {
        name: _Recorded(layer, before.get(i), partial(after, i + 1))
        for i, (name, layer) in enumerate(layers.items())
    }


@torch.no_grad()
def full_velocity(
    model: nn.Module, family: Family, inputs: WindowInputs, micro_batch: int, device: torch.device
) -> Tensor:
    """v (W, T, C) of the full model with the LoRA as it is now, layer-major, on the CPU."""
    wrapped = layerwise(model, family, micro_batch, device)
    with beside(model, micro_batch, device, device):
        return _run(model, family, inputs, wrapped, device).cpu()


def layerwise(
    model: nn.Module, family: Family, micro_batch: int, device: torch.device
) -> dict[str, nn.Module]:
    """Every block by its name, wrapped so that it is brought once, `micro_batch` draws at a time go
    through it, and the next block is fetched meanwhile."""
    blocks = family.blocks(model)
    following = [block for _, block in blocks[1:]] + [None]
    streams = ("hidden_states", "encoder_hidden_states")
    given = streams if family.image_output == 0 else streams[::-1]
    return {
        name: Layerwise(block, micro_batch, family.batched, given, device, ahead)
        for (name, block), ahead in zip(blocks, following, strict=True)
    }


@contextmanager
def beside(
    model: nn.Module, micro_batch: int, device: torch.device, waits: torch.device
) -> Iterator[None]:
    """Inside, what has weights and is no block takes inputs from RAM, `micro_batch` rows at a time;
    what it gives waits on `waits`. On the CPU, where all is RAM, nothing changes."""
    parts = {
        name: Apart(module, micro_batch, device, waits)
        for name, module in model.named_children()
        if not isinstance(module, nn.ModuleList) and next(module.parameters(), None) is not None
    }
    with replaced(model, parts if device.type != "cpu" else {}):
        yield


def _run(
    model: nn.Module,
    family: Family,
    inputs: WindowInputs,
    blocks: dict[str, nn.Module],
    device: torch.device,
) -> Tensor:
    """One forward of the library's model with `blocks` in the place of its own."""
    tensors = (inputs.noisy, inputs.text, inputs.pooled, inputs.t)
    with replaced(model, blocks), resident(device, model):
        (velocity,) = model(**family.inputs(*tensors, inputs.side_px, inputs.guidance))
    return velocity


def _record_modulation(
    stack: ExitStack, model: nn.Module, family: Family, span: Span, alongside: Alongside | None
) -> dict[str, list[Tensor]]:
    """Hooks that keep, micro-batch by micro-batch, what the middle's modulation linears give."""
    kept: dict[str, list[Tensor]] = {}
    for name in modulation_names(model, family, span):
        kept[name] = []
        handle = model.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, parts=kept[name]: (
                None if alongside and alongside.busy else parts.append(output.cpu())
            )
        )
        stack.callback(handle.remove)
    return kept


def save_window(path: Path, window: dict[str, Tensor], fingerprint: str) -> None:
    """Write a window in its compute dtype. Raises UserError when the disk is full."""
    files.save_tensors(path, window, {"fingerprint": fingerprint})


def load_rows(path: Path, start: int, stop: int, device: torch.device) -> dict[str, Tensor]:
    """Rows [start, stop) of every tensor of a stored window; nothing else is read."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_slice(name)[start:stop].to(device) for name in file.keys()}  # noqa: SIM118
