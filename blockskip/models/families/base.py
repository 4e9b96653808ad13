"""What a family of diffusion transformers must answer; everything else is written once for all.

To add a family: a class with these members, of which diffusers_family.py answers what most have in common, in
a file of its own that calls it FAMILY, and a row in presets/models.toml. Shapes: B draws, T image
tokens, S text tokens, C latent channels, D width. A latent is what the library's transformer takes:
(B, T, C) packed, or (B, C, H, W); packed where it takes lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn

from blockskip.models.families.streams import Streams
from blockskip.models.lora.protocol import LoraNames

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin
    from transformers import PreTrainedModel

    from blockskip.models.sources import Source


@dataclass(frozen=True)
class Text:
    """Encoded captions. embeds: (B, S, ·) per token. pooled_or_mask: (B, ·), what else the model is
    told of a caption: FLUX's pooled vector, SANA's mask of tokens that count; (B, 0) for nothing."""

    embeds: Tensor
    pooled_or_mask: Tensor

    def rows(self, rows: Sequence[int]) -> Text:
        """The captions of these rows, (len(rows), …)."""
        return Text(self.embeds[list(rows)], self.pooled_or_mask[list(rows)])

    def to(self, place: torch.device | torch.dtype) -> Text:
        """The same on a device, or in another type."""
        return Text(self.embeds.to(place), self.pooled_or_mask.to(place))

    @staticmethod
    def cat(texts: Sequence[Text]) -> Text:
        """All rows one after another."""
        return Text(
            torch.cat([t.embeds for t in texts]), torch.cat([t.pooled_or_mask for t in texts])
        )


@dataclass(frozen=True)
class Sampling:
    """How a preview is made. side_px: of the square picture. guidance: as the model row means
    it."""

    side_px: int
    steps: int
    guidance: float


class Family(ABC):
    """All that differs between models."""

    pixel_multiple: int  # crop sides are multiples of this: VAE downsampling x packing
    per_sample_args: tuple[str, ...]  # arguments of blocks with one row a draw
    # modules before the first block that are not needed when blocks are skipped at the front; a list
    # among them is of layers with the blocks' arguments
    embedders: tuple[str, ...]
    # whether every block reads the caption, not only the text stream it is given
    text_cross_attention: bool
    shared_modulation: tuple[str, ...]  # modules beside the blocks that see what `modulation`'s see
    workflow: Callable[..., dict] | None  # for ComfyUI, beside an exported LoRA
    lora_names: LoraNames  # what other programs call the layers of a LoRA
    patch_size: int  # cells of the VAE to a side of a token
    # modules that make a token of a patch and a patch of a token; None: sampling/dynamic_patches.py cannot merge patches here
    patch_modules: tuple[str, str] | None
    latents_arg: str  # the forward's argument that is x_t
    # parts of the pipeline that `open` leaves empty for placement to fill
    streamed_parts: tuple[str, ...]

    @abstractmethod
    def load(self, source: Source | Path, dtype: torch.dtype) -> DiffusionPipeline:
        """The library's pipeline, frozen, whole in RAM. A path is a folder in diffusers' layout."""

    @abstractmethod
    def open(self, source: Source, dtype: torch.dtype) -> DiffusionPipeline:
        """As `load`, but the large parts have no weights yet: they wait to be parked
        (memory/streaming.py)."""

    @abstractmethod
    def text_encoders(self, pipe: DiffusionPipeline) -> list[PreTrainedModel]:
        """The text encoders, all of them."""

    @abstractmethod
    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        """(name, block) of all stacks as one sequence of N blocks."""

    @abstractmethod
    def streams(self, block: nn.Module) -> Streams:
        """How a block takes and gives what it works on."""

    @abstractmethod
    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        """Names inside `block` of the linears that see only t, pooled text and guidance."""

    @abstractmethod
    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """Names inside `block` of the linears LoRA adapts. targets: attention | attention+ff."""

    @abstractmethod
    def encode_text(self, pipe: DiffusionPipeline, captions: Sequence[str], tokens: int) -> Text:
        """Captions → text inputs, on the encoders' device."""

    @abstractmethod
    def caption_shape(self, transformer: ModelMixin, tokens: int) -> tuple[int, int, int]:
        """(S, width, numbers beside) of a caption that is encoded with so many tokens."""

    @abstractmethod
    def encode_images(self, pipe: DiffusionPipeline, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] → normalised latents as `inputs` takes them: packed
        (B, T, C), or (B, C, h, w) where the transformer packs."""

    @abstractmethod
    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        """Arguments of the transformer's forward. noisy: x_t, latents of B draws; t: (B,). Where
        blocks are skipped at the front, of `noisy` only the shape counts, and of `text.embeds`, whose
        last axis may be short, unless the family has `text_cross_attention`."""

    @abstractmethod
    def merge_patches(self, given: dict, factor: int) -> dict:
        """Arguments of the transformer's forward with factor x factor tokens as one: `latents`, and
        what says where tokens are (patches.py)."""

    @abstractmethod
    def velocity(self, output: tuple) -> Tensor:
        """v = ε - x_0, shaped as latents, from what the transformer's forward gives."""

    @abstractmethod
    def sample(
        self,
        pipe: DiffusionPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        """One picture a row of `text`, from the whole model with whatever LoRA is active."""


def get_family(name: str) -> Family:
    """The family of that name (presets/models.toml, key `family`): FAMILY of the module so named."""
    return import_module(f"blockskip.models.families.{name}").FAMILY()
