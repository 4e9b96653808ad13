"""Full transformer → its trainable middle, inside the library's own model (METHOD.md §1.3, §1.4b).

Stateless replay modules stand in the model's block lists at the skipped indices, so that indices
and parameter names never shift and the library's forward is used as it is. A step hands them its
tensors through a `Feed`:

    front   embedders and blocks pass on zeros; its last block gives f_n itself
    middle  its modulation layers are replaced by what they said when the window was computed
    back    the first skipped block adds Δ to the image stream, the others pass it on
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.families.base import Family, Text
from blockskip.families.streams import Streams, flat
from blockskip.memory.passes import Named, Streamed
from blockskip.memory.placement import replaced, stand_ins
from blockskip.residuals import Pass, Span, modulation_names


class Feed:
    """The tensors of the step being computed, by name; empty outside `holding`."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def all(self, prefix: str) -> tuple[Tensor, ...]:
        """Those whose names are the prefix and 0, 1, …, in order."""
        names = sorted(name for name in self._tensors if name.startswith(prefix))
        return tuple(self._tensors[name] for name in names)

    @contextmanager
    def holding(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Forward and backward of one micro-step happen inside (checkpointing recomputes there)."""
        self._tensors = tensors
        try:
            yield
        finally:
            self._tensors = {}


class Blank(nn.Module):
    """Stands for an embedder whose answer nobody reads: zeros of its shape that take no room."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed

    def forward(self, given: Tensor, *_: object, **__: object) -> Tensor:
        known = self.feed.all("front.")[-1]  # the image's, where each stream is by itself
        shape = (*given.shape[:-1], known.shape[-1]) if given.dim() < 4 else known.shape
        return known.new_zeros(()).expand(shape)


def _blank(embedder: nn.Module, feed: Feed) -> nn.Module:
    """What stands for an embedder; of layers in a list none need be there."""
    return nn.ModuleList() if isinstance(embedder, nn.ModuleList) else Blank(feed)


class ReplayFront(Pass):
    """The last skipped block of the front: gives what it gave when the window was computed, of as
    many tokens as this step's draws have; beside longer captions they were padded further."""

    def __init__(self, block: nn.Module, streams: Streams, feed: Feed) -> None:
        super().__init__(block, streams)
        self.feed = feed

    def run(self, given: dict) -> Tensor | tuple[Tensor, ...]:
        passed = super().run(given)
        both = zip(self.feed.all("front."), flat(passed), strict=True)
        made = tuple(known[:, : blank.shape[1]] for known, blank in both)
        return made if isinstance(passed, tuple) else made[0]


class AddResidual(Pass):
    """The first skipped block of the back: image + Δ, text unchanged; gradient is the identity."""

    def __init__(self, block: nn.Module, streams: Streams, feed: Feed) -> None:
        super().__init__(block, streams)
        self.feed = feed

    def run(self, given: dict) -> Tensor | tuple[Tensor, ...]:
        passed, change = super().run(given), self.feed["back"]
        image = self.streams.image(passed, change.shape[1]) + change
        return self.streams.with_image(passed, image)


class ReplayModulation(nn.Module):
    """Stands for a modulation layer: gives what it gave when the window was computed, (B, …)."""

    def __init__(self, feed: Feed, name: str) -> None:
        super().__init__()
        self.feed, self.name = feed, name

    def forward(self, _: Tensor) -> Tensor:
        return self.feed[self.name]


class Checkpointed(Named):
    """A block whose activations are computed again in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.block = block

    def run(self, given: dict) -> Tensor | tuple[Tensor, ...]:
        # nothing in a block is drawn at random
        return checkpoint(self.block, use_reentrant=False, preserve_rng_state=False, **given)


@contextmanager
def skipping(
    model: nn.Module,
    family: Family,
    span: Span,
    checkpointing: bool = False,
    streamed_to: torch.device | None = None,
) -> Iterator[Feed]:
    """`model` runs only its middle inside; tensors for each step go through the Feed it gives.

    streamed_to: the middle does not stay there; each block is brought for its forward and again for
    its backward (which implies checkpointing). Raises ValueError when the span leaves no middle.
    """
    feed, blocks = Feed(), family.blocks(model)
    middle = span.middle(len(blocks))
    if not middle:
        raise ValueError(f"skipping {span.front} + {span.back} of {len(blocks)} blocks leaves none")
    skipped = {
        name: Pass(block, family.streams(block))
        for i, (name, block) in enumerate(blocks)
        if i not in middle
    }
    if span.front:
        name, block = blocks[middle.start - 1]
        skipped[name] = ReplayFront(block, family.streams(block), feed)
        skipped |= {name: _blank(model.get_submodule(name), feed) for name in family.embedders}
    if span.back:
        name, block = blocks[middle.stop]
        skipped[name] = AddResidual(block, family.streams(block), feed)
    modulation = {
        name: ReplayModulation(feed, name) for name in modulation_names(model, family, span)
    }
    with ExitStack() as stack:
        stack.enter_context(replaced(model, skipped | modulation))
        if streamed_to is not None:
            stack.enter_context(replaced(model, streamed(blocks, middle, streamed_to)))
        elif checkpointing:
            stack.enter_context(replaced(model, checkpointed(blocks, middle)))
        yield feed


def checkpointed(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int]
) -> dict[str, nn.Module]:
    """The blocks of `middle` by name, their activations computed again in the backward pass."""
    return {blocks[i][0]: Checkpointed(blocks[i][1]) for i in middle}


def streamed(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int], device: torch.device
) -> dict[str, nn.Module]:
    """As `checkpointed`, and each is on `device` only for its forward and again for its backward."""
    coming = [blocks[i][1] for i in middle]
    before, after = [None, *coming[:-1]], [*coming[1:], None]
    return {
        blocks[i][0]: Streamed(block, device, *neighbours)
        for i, block, *neighbours in zip(middle, coming, before, after, strict=True)
    }


def read_by_middle(family: Family, span: Span, text: Text) -> Text:
    """Captions as a step needs them: whole where the middle reads them, else one number a token, for
    their shape."""
    if family.reads_text or not span.front:
        return text
    return Text(text.embeds[..., :1], text.beside)


def velocity(
    model: nn.Module,
    family: Family,
    feed: Feed,
    window: dict[str, Tensor],
    text: Text,
    side_px: int,
    guidance: bool,
) -> Tensor:
    """v of the skipping model for the draws of `window` (compute_window), whose tensors have B rows:
    latents. text: their captions, as `read_by_middle` gives them. Must run inside `feed.holding`."""
    given = family.inputs(window["noisy"], text, window["t"], side_px, guidance)
    return family.velocity(model(**given))


def add_lora(
    model: nn.Module, family: Family, span: Span, rank: int, targets: str, seed: int
) -> dict[str, nn.Parameter]:
    """Give the middle a LoRA (alpha = rank, B = 0) through peft.

    Its parameters are fp32 whatever the model is, and are used in the type of their input.
    Returns them under the full model's names, `transformer.<linear>.lora_A.weight` (r, in) and
    `….lora_B.weight` (out, r).
    """
    from peft import LoraConfig

    blocks = family.blocks(model)
    names = [
        f"{name}.{linear}"
        for name, block in (blocks[i] for i in span.middle(len(blocks)))
        for linear in family.lora_targets(block, targets)
    ]
    with torch.random.fork_rng(devices=[]), stand_ins(model):
        torch.manual_seed(seed)
        model.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=names, init_lora_weights=True)
        )
    for name in names:
        _keep_in_fp32(model.get_submodule(name))
    return {
        f"transformer.{name.replace('.default', '')}": parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


class _Rounded(nn.Linear):
    """A LoRA matrix kept in fp32 and rounded to its input's type when used.

    peft instead widens the input to fp32 and keeps a copy of it for each of q, k, v: at FLUX's size
    4 GiB of the card. Rounding the small matrix costs nothing; in fp32 both are the same bytes.
    """

    def __init__(self, matrix: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = matrix.in_features, matrix.out_features
        self.weight = nn.Parameter(matrix.weight.detach().float())
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))


def _keep_in_fp32(layer: nn.Module) -> None:
    """The LoRA of a peft layer in fp32 (AdamW's small steps vanish in bf16), used as _Rounded."""
    layer.cast_input_dtype_enabled = False
    for part in (layer.lora_A, layer.lora_B):
        for name, matrix in part.items():
            part[name] = _Rounded(matrix)


def snapshot(lora: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """A copy of the LoRA's tensors, on the CPU: the card has none to spare."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in lora.items()}


@torch.no_grad()
def restore(lora: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    """Set the LoRA's tensors in place. Raises KeyError when names differ."""
    if lora.keys() != state.keys():
        raise KeyError(f"LoRA names differ: {sorted(lora.keys() ^ state.keys())[:3]}")
    for name, parameter in lora.items():
        parameter.copy_(state[name])
