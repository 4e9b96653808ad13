"""What a family of diffusion transformers must answer; everything else is written once for all.

To add a family: a class with these members in a file of its own, a line in `family()`, and a row in
presets/models.toml. Shapes: B draws, T image tokens, S text tokens, C latent channels, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from blockskip.sources import Source


@dataclass(frozen=True)
class Text:
    """Encoded captions. embeds: (B, S, ·) per token; pooled: (B, ·)."""

    embeds: Tensor
    pooled: Tensor

    def rows(self, rows: Sequence[int]) -> Text:
        """The captions of these rows, (len(rows), …)."""
        return Text(self.embeds[list(rows)], self.pooled[list(rows)])

    def cpu(self) -> Text:
        """The same in RAM."""
        return Text(self.embeds.cpu(), self.pooled.cpu())


@dataclass(frozen=True)
class Sampling:
    """How a preview is made. side_px: of the square picture. guidance: as the model row means
    it."""

    side_px: int
    steps: int
    guidance: float


class Family(Protocol):
    """All that differs between models."""

    pixel_multiple: int  # crop sides are multiples of this: VAE downsampling x packing
    batched: tuple[str, ...]  # keyword inputs of a block with one row a draw
    embedders: tuple[str, ...]  # modules before the first block that take image and text
    image_output: int  # which of a block's outputs is the image stream
    large: tuple[str, ...]  # parts of the pipeline that `open` leaves empty for placement to fill

    def load(self, source: Source | Path, dtype: torch.dtype) -> object:
        """The library's pipeline, frozen, whole in RAM. A path is a folder in diffusers' layout."""

    def open(self, source: Source, dtype: torch.dtype) -> object:
        """As `load`, but the large parts have no weights yet: they wait to be parked
        (memory/stream.py)."""

    def text_encoders(self, pipe: object) -> list[nn.Module]:
        """The text encoders, all of them."""

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        """(name, block) of all stacks as one sequence of N blocks."""

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        """Names inside `block` of the linears that see only t, pooled text and guidance."""

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """Names inside `block` of the linears LoRA adapts. targets: attention | attention+ff."""

    def encode_text(self, pipe: object, captions: Sequence[str], tokens: int) -> Text:
        """Captions → text inputs, on the encoders' device."""

    def encode_images(self, pipe: object, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] → normalised, packed latents (B, T, C)."""

    def inputs(
        self, image: Tensor, text: Tensor, pooled: Tensor, t: Tensor, side_px: int, guidance: bool
    ) -> dict:
        """Arguments of the transformer's forward. image: (B, T, ·), text: (B, S, ·), t: (B,)."""

    def sample(
        self, pipe: object, text: Text, negative: Text, sampling: Sampling, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One picture a row of `text`, from the whole model with whatever LoRA is active."""


def family(name: str) -> Family:
    """The family of that name (presets/models.toml, key `family`)."""
    from blockskip.families.flux import Flux

    return {"flux": Flux}[name]()
