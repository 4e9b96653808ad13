"""Reduce a transformer to its trained middle inside diffusers' model (docs/method.md §1.3, §1.4b).

Stateless replay modules replace the skipped blocks in the model's block lists. Block indices and
parameter names therefore never shift, and diffusers' forward runs unchanged. `StepInputs` holds
the stored tensors of the current step. The two forwards, written out for N double-stream blocks
(`block.mod` stands for a block's modulation layers):

    def window_forward(x, text, t):                  # compute_window: W draws, no gradients
        stored = {"noisy": x, "t": t}
        img, txt, vec = img_in(x), txt_in(text), time_in(t, text)
        for block in blocks[:front]:                 # Layerwise, as all blocks here: loaded once
            txt, img = block(img, txt, block.mod(vec))
        stored["front.0"], stored["front.1"] = txt, img        # _recording_blocks: f_n
        for block in blocks[front : N - back]:       # with the current LoRA
            stored[block.mod] = block.mod(vec)                 # _record_modulation
            txt, img = block(img, txt, stored[block.mod])
        before = img
        for block in blocks[N - back :]:
            txt, img = block(img, txt, block.mod(vec))
        stored["back"] = img - before                          # _recording_blocks: Δ
        return stored                                # _StopForward: only a PriorPass runs the head

    def step_forward(stored, text):                  # velocity, in micro_step: B draws (load_rows)
        img, txt = 0, 0                                        # ZeroEmbedder
        vec = time_in(stored["t"], text)             # text: from text_for_middle
        for block in blocks[: front - 1]:
            pass                                               # IdentityBlock
        txt, img = stored["front.0"], stored["front.1"]        # ReplayFront at front - 1
        for block in blocks[front : N - back]:       # trained; CheckpointedBlock or StreamedBlock
            txt, img = block(img, txt, stored[block.mod])      # ReplayModulation
        img = img + stored["back"]                             # AddResidual at N - back
        for block in blocks[N - back + 1 :]:
            pass                                               # IdentityBlock
        return final_layer(img, vec)                 # v, for flow_matching.loss

Without a front the embedders run as usual. Without a back nothing is added. ReplayFront trims the
text to the batch's length, since the window pads it to its longest caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.memory.block_wrappers import NamedArgsBlock, StreamedBlock
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family, Text
from blockskip.models.families.streams import Outputs, Streams, as_tuple, from_tuple
from blockskip.training.residuals import IdentityBlock, Span, modulation_names

if TYPE_CHECKING:
    from diffusers import ModelMixin


class StepInputs:
    """The tensors of the current micro-step by name; empty outside `bind`.

    modulation: the modules that replay some of them, by name.
    """

    def __init__(self, modulation: Iterable[str] = ()) -> None:
        self._tensors: dict[str, Tensor] = {}
        self.modulation = {name: ReplayModulation() for name in modulation}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def by_prefix(self, prefix: str) -> tuple[Tensor, ...]:
        """Return the tensors named `prefix` + 0, 1, …, in order."""
        names = sorted(name for name in self._tensors if name.startswith(prefix))
        return tuple(self._tensors[name] for name in names)

    @contextmanager
    def bind(self, tensors: dict[str, Tensor]) -> Iterator[None]:
        """Context manager for one micro-step's forward and backward, which recomputes blocks."""
        self._bind(tensors)
        try:
            yield
        finally:
            self._bind({})

    def _bind(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        for name, module in self.modulation.items():
            module.output = tensors.get(name)


class ZeroEmbedder(nn.Module):
    """Replaces an embedder with unused output: returns zeros of its shape that occupy no memory."""

    def __init__(self, step_inputs: StepInputs) -> None:
        super().__init__()
        self.step_inputs = step_inputs

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        # the last stream is the image's if text and image are separate
        front = self.step_inputs.by_prefix("front.")[-1]
        shape = (*x.shape[:-1], front.shape[-1]) if x.dim() < 4 else front.shape
        return front.new_zeros(()).expand(shape)


def _zero_embedder(embedder: nn.Module, step_inputs: StepInputs) -> nn.Module:
    """Return an embedder's replacement: an empty list for a list of layers, else a ZeroEmbedder."""
    return nn.ModuleList() if isinstance(embedder, nn.ModuleList) else ZeroEmbedder(step_inputs)


class ReplayFront(IdentityBlock):
    """The last skipped block of the front, which replays the stored front output.

    The output is trimmed to this batch's caption length.
    """

    def __init__(self, block: nn.Module, streams: Streams, step_inputs: StepInputs) -> None:
        super().__init__(block, streams)
        self.step_inputs = step_inputs

    def run(self, block_kwargs: dict) -> Outputs:
        streams = zip(
            self.step_inputs.by_prefix("front."),
            as_tuple(self.streams.identity_output(block_kwargs)),
            strict=True,
        )
        return from_tuple([stored[:, : blank.shape[1]] for stored, blank in streams])


class AddResidual(IdentityBlock):
    """The first skipped block of the back: image + Δ, text unchanged, gradient the identity."""

    def __init__(self, block: nn.Module, streams: Streams, step_inputs: StepInputs) -> None:
        super().__init__(block, streams)
        self.step_inputs = step_inputs

    def run(self, block_kwargs: dict) -> Outputs:
        outputs, residual = super().run(block_kwargs), self.step_inputs["back"]
        image = self.streams.image(outputs, residual.shape[1]) + residual
        return self.streams.with_image(outputs, image)


class ReplayModulation(nn.Module):
    """Replaces a modulation layer and replays its stored output, (B, …); or (B, 2, …), if the layer
    gets a row more, which all draws share and store.

    It does not look the output up by a name, which would differ between blocks of a kind
    (memory/compiled_blocks.py).
    """

    output: Tensor | None = None

    def forward(self, given: Tensor) -> Tensor:
        output = self.output
        assert output is not None, "outside `StepInputs.bind`"
        return torch.cat([output[:, 0], output[:1, 1]]) if len(given) > len(output) else output


class CheckpointedBlock(NamedArgsBlock):
    """A block with activation checkpointing: the backward pass recomputes its activations."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.block = block

    def run(self, block_kwargs: dict) -> Outputs:
        # blocks use no random numbers
        return checkpoint(self.block, use_reentrant=False, preserve_rng_state=False, **block_kwargs)


@contextmanager
def skip_blocks(
    model: nn.Module,
    family: Family,
    span: Span,
    recomputed: int = 0,
    streamed_to: torch.device | None = None,
) -> Iterator[StepInputs]:
    """Context manager in which `model` runs only its middle. Yields the steps' StepInputs.

    recomputed: how many blocks of the middle, from its first, get activation checkpointing. The
    backward pass reaches them last, when the others' activations are gone. streamed_to: wrap the
    whole middle in `streamed_blocks`, which checkpoint too, for this device.
    Raises ValueError if the span leaves no middle.
    """
    step_inputs, blocks = StepInputs(modulation_names(model, family, span)), family.blocks(model)
    middle = span.middle(len(blocks))
    if not middle:
        raise ValueError(f"skipping {span.front} + {span.back} of {len(blocks)} blocks leaves none")
    skipped = _skipped_modules(model, family, middle, step_inputs)
    with ExitStack() as stack:
        stack.enter_context(replace_modules(model, skipped | step_inputs.modulation))
        if streamed_to is not None:
            streamed = streamed_blocks(blocks, middle, streamed_to)
            stack.enter_context(replace_modules(model, streamed))
        else:
            again = checkpointed_blocks(blocks, middle[:recomputed])
            stack.enter_context(replace_modules(model, again))
        yield step_inputs


def _skipped_modules(
    model: nn.Module, family: Family, middle: range, step_inputs: StepInputs
) -> dict[str, nn.Module]:
    """Return what replaces the blocks outside the middle, and embedders that a front makes idle."""
    blocks = family.blocks(model)
    replaced: dict[str, nn.Module] = {
        name: IdentityBlock(block, family.streams(block))
        for i, (name, block) in enumerate(blocks)
        if i not in middle
    }
    if middle.start:
        name, block = blocks[middle.start - 1]
        replaced[name] = ReplayFront(block, family.streams(block), step_inputs)
        for name in family.embedders:
            replaced[name] = _zero_embedder(model.get_submodule(name), step_inputs)
    if middle.stop < len(blocks):
        name, block = blocks[middle.stop]
        replaced[name] = AddResidual(block, family.streams(block), step_inputs)
    return replaced


def checkpointed_blocks(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int]
) -> dict[str, nn.Module]:
    """Return the blocks of `middle` by name, wrapped in CheckpointedBlock."""
    return {blocks[i][0]: CheckpointedBlock(blocks[i][1]) for i in middle}


def streamed_blocks(
    blocks: Sequence[tuple[str, nn.Module]], middle: Sequence[int], device: torch.device
) -> dict[str, nn.Module]:
    """Return the blocks of `middle` by name, wrapped in StreamedBlock.

    Each is on `device` only for its forward and again for its backward, which recomputes its
    activations.
    """
    trained = [blocks[i][1] for i in middle]
    before, after = [None, *trained[:-1]], [*trained[1:], None]
    return {
        blocks[i][0]: StreamedBlock(block, device, *neighbours)
        for i, block, *neighbours in zip(middle, trained, before, after, strict=True)
    }


def text_for_middle(family: Family, span: Span, text: Text) -> Text:
    """Return the captions as a step needs them, (B, S, ·).

    They are complete if the middle reads them, else cut to one value per token, for their shape.
    """
    if family.text_cross_attention or not span.front:
        return text
    return Text(text.embeds[..., :1], text.pooled_or_mask)


def velocity(
    model: ModelMixin,
    family: Family,
    step_inputs: StepInputs,
    window: dict[str, Tensor],
    text: Text,
    side_px: int,
) -> Tensor:
    """Compute v of B draws with the skipping model, shaped like the latents.

    window: B rows of `compute_window`'s tensors. text: their captions from `text_for_middle`. Must
    run inside `step_inputs.bind`.
    """
    model_kwargs = family.inputs(model.config, window["noisy"], text, window["t"], side_px)
    return family.predict(model, model_kwargs)
