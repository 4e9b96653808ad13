"""The baselines BlockSkip is compared with, as small variations of one training loop
(docs/method.md §3).

Draws, noise, peft's LoRA, loss, clipping, AdamW and learning rate are those of training/trainer.py.
A trainer here changes the contents of a window, the blocks a step runs, or the LoRA weights it
updates:

    WholeTrainer        LoRA on the middle, nothing skipped or stored. With front and back 0, where it
                        does what Trainer does: plain LoRA, QLoRA (a quantised model), block swap (the
                        middle streamed: every block's weights loaded in every step)
    SwapTrainer         plain LoRA with some blocks swapped, the others resident
    LoraFATrainer       plain LoRA with A frozen at its initial values (LoRA-FA, arXiv 2308.03303,
                        without peft's correction of the gradient)
    LisaTrainer         plain LoRA with two random trainable blocks, redrawn every 20 steps (LISA,
                        arXiv 2403.17919, here applied to LoRA instead of the weights)
    HollowTrainer       the centre is skipped and stored, both ends are trained
    NoResidualTrainer   the chosen spans are skipped without a residual
    RoundedTrainer      the back's residual is stored in 8 bits
    ClassImagesTrainer  draws of the bare class word show pictures of the class (DreamBooth's prior
                        preservation, arXiv 2208.12242) instead of the pet's photos

tables.py has the rows of each table and their settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blockskip.core.flow_matching import generator
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.streams import Outputs, Streams, as_tuple
from blockskip.training.residuals import IdentityBlock, PriorPass, Span, WindowInputs, full_velocity
from blockskip.training.skipping import StepInputs, checkpointed_blocks, streamed_blocks
from blockskip.training.trainer import Trainer

LISA_BLOCKS, LISA_STEPS = 2, 20
SCALE_GROUP = 64  # elements per scale


class WholeTrainer(Trainer):
    """LoRA on the middle, nothing skipped."""

    skips = False


class SwapTrainer(Trainer):
    """Plain LoRA with activation checkpointing and block swap: `swapped` blocks, at most every
    other one, are loaded for each forward and backward pass. The others stay on the device."""

    def __init__(self, *args: object, swapped: int, **kwargs: object) -> None:
        self.swapped = swapped
        super().__init__(*args, **kwargs)

    @contextmanager
    def step_model(self, without_middle: bool = False) -> Iterator[StepInputs]:
        blocks = self.family.blocks(self.model)
        coming = list(range(len(blocks)))[1::2][: self.swapped]
        staying = [i for i in range(len(blocks)) if i not in coming]
        wrapped = checkpointed_blocks(blocks, staying) | streamed_blocks(
            blocks, coming, self.device
        )
        with replace_modules(self.model, wrapped):
            yield StepInputs()


class LoraFATrainer(Trainer):
    """Plain LoRA with A frozen at its initial values, so that no layer inputs are kept for it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        for name, parameter in self.lora.items():
            parameter.requires_grad_("lora_A" not in name)


class LisaTrainer(Trainer):
    """Plain LoRA that trains LISA_BLOCKS random blocks at a time, redrawn every LISA_STEPS
    steps."""

    def train_step(self, path: Path, first: int) -> float:
        blocks = [name for name, _ in self.family.blocks(self.model)]
        source = generator(self.settings.seed, "lisa", self.step // LISA_STEPS)
        drawn = torch.randperm(len(blocks), generator=source)[:LISA_BLOCKS].tolist()
        moved = tuple(f"transformer.{blocks[i]}." for i in drawn)
        for name, parameter in self.lora.items():
            parameter.requires_grad_(name.startswith(moved))
        return super().train_step(path, first)


@dataclass(frozen=True)
class MiddleSkippedSpan(Span):
    """A span that trains blocks [0, front) and [N - back, N) and skips the centre."""

    def middle(self, num_blocks: int) -> list[int]:
        """Return the indices of the trained blocks."""
        centre = self.centre(num_blocks)
        return [i for i in range(num_blocks) if i not in centre]

    def centre(self, num_blocks: int) -> range:
        """Return the indices of the skipped blocks."""
        return range(self.front, num_blocks - self.back)


class AddResiduals(IdentityBlock):
    """The first skipped block of a hollow centre. Adds Δ to every stream, text included, since
    later blocks read it."""

    def __init__(self, block: nn.Module, streams: Streams, step_inputs: StepInputs) -> None:
        super().__init__(block, streams)
        self.step_inputs = step_inputs

    def run(self, block_kwargs: dict) -> Tensor | tuple[Tensor, ...]:
        passed = super().run(block_kwargs)
        both = zip(as_tuple(passed), self.step_inputs.by_prefix("centre."), strict=True)
        outputs = tuple(stream + change[:, : stream.shape[1]] for stream, change in both)
        return outputs if isinstance(passed, tuple) else outputs[0]


class HollowTrainer(WholeTrainer):
    """Skips the centre and stores its residuals (HollowedNet's choice of span). settings: front and
    back count the blocks that are *trained* at either end."""

    span_type = MiddleSkippedSpan

    def window_features(
        self, rows: Sequence[int], prior_pass: PriorPass | None
    ) -> dict[str, Tensor]:
        window = super().window_features(rows, prior_pass)
        skipped = self._centre()
        before_centre, after_centre = [], []

        first, last = skipped[0][1], skipped[-1][1]
        streams = self.family.streams(first)

        def before(_module: nn.Module, _args: tuple, inputs: dict) -> None:
            before_centre.append(_to_cpu(streams.identity_output(inputs)))

        def after(_module: nn.Module, _args: tuple, outputs: Outputs) -> None:
            after_centre.append(_to_cpu(outputs))

        handles = [
            first.register_forward_pre_hook(
                before, with_kwargs=True
            ),  # layer-major: all are keywords
            last.register_forward_hook(after),
        ]
        try:
            full_velocity(
                self.model,
                self.family,
                self.inputs(rows),
                self.settings.plan.micro_batch,
                self.device,
            )
        finally:
            for handle in handles:
                handle.remove()
        for i in range(len(before_centre[0])):
            change = [b[i] - a[i] for a, b in zip(before_centre, after_centre, strict=True)]
            window[f"centre.{i}"] = torch.cat(change)
        return window

    @contextmanager
    def step_model(self, without_middle: bool = False) -> Iterator[StepInputs]:
        with super().step_model(without_middle) as step_inputs:
            centre = self._centre()
            skipped = {
                name: IdentityBlock(block, self.family.streams(block)) for name, block in centre
            }
            first, block = centre[0]
            skipped[first] = AddResiduals(block, self.family.streams(block), step_inputs)
            with replace_modules(self.model, skipped):
                yield step_inputs

    def _centre(self) -> list[tuple[str, nn.Module]]:
        blocks = self.family.blocks(self.model)
        return [blocks[i] for i in self.trained.centre(len(blocks))]


def _to_cpu(outputs: Outputs) -> list[Tensor]:
    return [stream.to("cpu", copy=True) for stream in as_tuple(outputs)]


class NoResidualTrainer(Trainer):
    """Skips the spans without residuals: the middle reads the embedders' output, the head the
    middle's. Sampling still uses the full model, so the LoRA is trained for another model than it
    is used in."""

    @torch.no_grad()
    def window_features(
        self, rows: Sequence[int], prior_pass: PriorPass | None
    ) -> dict[str, Tensor]:
        window, inputs = super().window_features(rows, prior_pass), self.inputs(rows)
        if self.span.front:
            for i, stream in enumerate(as_tuple(self._embedded(inputs))):
                window[f"front.{i}"] = stream.to("cpu", copy=True)
        if self.span.back:
            window["back"] = torch.zeros_like(window["back"])
        return window

    def _embedded(self, inputs: WindowInputs) -> object:
        """Return the front's output with every block of it replaced by the identity."""
        front = self.family.blocks(self.model)[: self.span.front]
        passes = {name: IdentityBlock(block, self.family.streams(block)) for name, block in front}
        captured: list[object] = []

        def stop(_module: nn.Module, _args: tuple, outputs: Outputs) -> None:
            captured.append(outputs)
            raise _StopForward

        last = list(passes.values())[-1].register_forward_hook(stop)
        model_inputs = self.family.inputs(
            self.model.config,
            inputs.noisy.to(self.device),
            inputs.text.to(self.device),
            inputs.t.to(self.device),
            inputs.side_px,
        )
        with (
            replace_modules(self.model, passes),
            on_device(self.device, self.model),
            suppress(_StopForward),
        ):
            self.model(**model_inputs)
        last.remove()
        return captured[0]


class _StopForward(Exception):
    """Raised to end a forward pass early."""


class RoundedTrainer(Trainer):
    """Rounds the back's residual to 8 bits, SCALE_GROUP elements per scale: a quarter of
    float32."""

    def window_features(
        self, rows: Sequence[int], prior_pass: PriorPass | None
    ) -> dict[str, Tensor]:
        window = super().window_features(rows, prior_pass)
        if self.span.back:
            window["back"] = round_to_8_bits(window["back"])
        return window


class ClassImagesTrainer(Trainer):
    """Trains draws of the bare class word on the latents of class images in `data`."""

    def prior_pass(self, rows: Sequence[int]) -> None:
        """Return None: the target is the picture's own velocity, not the untrained model's."""


def round_to_8_bits(x: Tensor) -> Tensor:
    """Return x (…, D) rounded to 8 bits, with one scale per SCALE_GROUP elements."""
    parts = x.float().unflatten(-1, (-1, SCALE_GROUP))
    scale = parts.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return ((parts / scale).round() * scale).flatten(-2).to(x.dtype)
