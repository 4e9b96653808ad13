"""Full transformer → its trainable middle, inside the library's own model (docs/method.md §1.3, §1.4b).

Stateless replay modules stand in the model's block lists at the skipped indices, so that indices
and parameter names never shift and the library's forward is used as it is. A step hands them its
tensors through `StepInputs`:

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

from blockskip.memory.block_wrappers import NamedArgsBlock, StreamedBlock
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family, Text
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple
from blockskip.training.residuals import IdentityBlock, Span, modulation_names


class StepInputs:
    """The tensors of the step being computed, by name; empty outside `bind`."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def by_prefix(self, prefix: str) -> tuple[Tensor, ...]:
        """Those whose names are the prefix and 0, 1, …, in order."""
        names = sorted(name for name in self._tensors if name.startswith(prefix))
        return tuple(self._tensors[name] for name in names)

    @contextmanager
    def bind(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Forward and backward of one micro-step happen inside (checkpointing recomputes there)."""
        self._tensors = tensors
        try:
            yield
        finally:
            self._tensors = {}


class ZeroEmbedder(nn.Module):
    """Stands for an embedder whose answer nobody reads: zeros of its shape that take no room."""

    def __init__(self, step_inputs: StepInputs) -> None:
        super().__init__()
        self.step_inputs = step_inputs

    def forward(self, given: Tensor, *_: object, **__: object) -> Tensor:
        known = self.step_inputs.by_prefix("front.")[
            -1
        ]  # the image's, where each stream is by itself
        shape = (*given.shape[:-1], known.shape[-1]) if given.dim() < 4 else known.shape
        return known.new_zeros(()).expand(shape)


def _zero_embedder(embedder: nn.Module, step_inputs: StepInputs) -> nn.Module:
    """What stands for an embedder; of layers in a list none need be there."""
    return nn.ModuleList() if isinstance(embedder, nn.ModuleList) else ZeroEmbedder(step_inputs)


class ReplayFront(IdentityBlock):
    """The last skipped block of the front: gives what it gave when the window was computed, of as
    many tokens as this step's draws have; beside longer captions they were padded further."""

    def __init__(self, block: nn.Module, streams: Streams, step_inputs: StepInputs) -> None:
        super().__init__(block, streams)
        self.step_inputs = step_inputs

    def run(self, given: dict) -> Outputs:
        both = zip(
            self.step_inputs.by_prefix("front."),
            as_tuple(self.streams.identity_output(given)),
            strict=True,
        )
        return from_tuple([known[:, : blank.shape[1]] for known, blank in both])


class AddResidual(IdentityBlock):
    """The first skipped block of the back: image + Δ, text unchanged; gradient is the identity."""

    def __init__(self, block: nn.Module, streams: Streams, step_inputs: StepInputs) -> None:
        super().__init__(block, streams)
        self.step_inputs = step_inputs

    def run(self, given: dict) -> Outputs:
        passed, change = super().run(given), self.step_inputs["back"]
        image = self.streams.image(passed, change.shape[1]) + change
        return self.streams.with_image(passed, image)


class ReplayModulation(nn.Module):
    """Stands for a modulation layer: gives what it gave when the window was computed, (B, …)."""

    def __init__(self, step_inputs: StepInputs, name: str) -> None:
        super().__init__()
        self.step_inputs, self.name = step_inputs, name

    def forward(self, _: Tensor) -> Tensor:
        return self.step_inputs[self.name]


class CheckpointedBlock(NamedArgsBlock):
    """A block whose activations are computed again in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.block = block

    def run(self, given: dict) -> Outputs:
        # nothing in a block is drawn at random
        return checkpoint(self.block, use_reentrant=False, preserve_rng_state=False, **given)


@contextmanager
def skip_blocks(
    model: nn.Module,
    family: Family,
    span: Span,
    checkpointing: bool = False,
    streamed_to: torch.device | None = None,
) -> Iterator[StepInputs]:
    """`model` runs only its middle inside; tensors for each step go through the StepInputs it gives.

    streamed_to: the middle does not stay there; each block is brought for its forward and again for
    its backward (which implies checkpointing). Raises ValueError when the span leaves no middle.
    """
    step_inputs, blocks = StepInputs(), family.blocks(model)
    middle = span.middle(len(blocks))
    if not middle:
        raise ValueError(f"skipping {span.front} + {span.back} of {len(blocks)} blocks leaves none")
    skipped: dict[str, nn.Module] = {
        name: IdentityBlock(block, family.streams(block))
        for i, (name, block) in enumerate(blocks)
        if i not in middle
    }
    if span.front:
        name, block = blocks[middle.start - 1]
        skipped[name] = ReplayFront(block, family.streams(block), step_inputs)
        for name in family.embedders:
            skipped[name] = _zero_embedder(model.get_submodule(name), step_inputs)
    if span.back:
        name, block = blocks[middle.stop]
        skipped[name] = AddResidual(block, family.streams(block), step_inputs)
    modulation = {
        name: ReplayModulation(step_inputs, name) for name in modulation_names(model, family, span)
    }
    with ExitStack() as stack:
        stack.enter_context(replace_modules(model, skipped | modulation))
        if streamed_to is not None:
            stack.enter_context(
                replace_modules(model, streamed_blocks(blocks, middle, streamed_to))
            )
        elif checkpointing:
            stack.enter_context(replace_modules(model, checkpointed_blocks(blocks, middle)))
        yield step_inputs


def checkpointed_blocks(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int]
) -> dict[str, nn.Module]:
    """The blocks of `middle` by name, their activations computed again in the backward pass."""
    return {blocks[i][0]: CheckpointedBlock(blocks[i][1]) for i in middle}


def streamed_blocks(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int], device: torch.device
) -> dict[str, nn.Module]:
    """As `checkpointed_blocks`, and each is on `device` only for its forward and again for its
    backward."""
    coming = [blocks[i][1] for i in middle]
    before, after = [None, *coming[:-1]], [*coming[1:], None]
    return {
        blocks[i][0]: StreamedBlock(block, device, *neighbours)
        for i, block, *neighbours in zip(middle, coming, before, after, strict=True)
    }


def text_for_middle(family: Family, span: Span, text: Text) -> Text:
    """Captions as a step needs them: whole where the middle reads them, else one number a token, for
    their shape."""
    if family.text_cross_attention or not span.front:
        return text
    return Text(text.embeds[..., :1], text.pooled_or_mask)


def velocity(
    model: nn.Module,
    family: Family,
    step_inputs: StepInputs,
    window: dict[str, Tensor],
    text: Text,
    side_px: int,
    guidance: bool,
) -> Tensor:
    """v of the skipping model for the draws of `window` (compute_window), whose tensors have B rows:
    latents. text: their captions, as `text_for_middle` gives them. Must run inside
    `step_inputs.bind`."""
    given = family.inputs(window["noisy"], text, window["t"], side_px, guidance)
    return family.velocity(model(**given))
