"""The interface of a family of diffusion transformers; all other code is shared between families.

To add a family, write a module with a subclass (usually of DiffusersFamily, which implements the
common members), assign the class to FAMILY, and add a row to presets/models.toml. Shapes: B draws,
T image tokens, S text tokens, C latent channels, D width. Latents have the shape that the diffusers
transformer takes: (B, T, C) packed, or (B, C, H, W). Where it takes lists, they are packed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from blockskip.models.families.streams import Streams
from blockskip.models.lora.protocol import LoraNames

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin
    from transformers import PreTrainedModel

    from blockskip.models.sources import Source


Config = Mapping[str, Any]  # of a part, as in its config.json


@dataclass(frozen=True)
class Text:
    """Encoded captions. embeds: (B, S, ·) per token. pooled_or_mask: (B, ·), the model's other text
    input: FLUX's pooled vector, SANA's mask of valid tokens, or (B, 0) for none."""

    embeds: Tensor
    pooled_or_mask: Tensor

    def rows(self, rows: Sequence[int]) -> Text:
        """Return the captions of these rows, (len(rows), …)."""
        return Text(self.embeds[list(rows)], self.pooled_or_mask[list(rows)])

    def to(self, target: torch.device | torch.dtype) -> Text:
        """Return a copy on that device, or in that dtype."""
        return Text(self.embeds.to(target), self.pooled_or_mask.to(target))

    @staticmethod
    def cat(texts: Sequence[Text]) -> Text:
        """Concatenate the rows."""
        return Text(
            torch.cat([t.embeds for t in texts]), torch.cat([t.pooled_or_mask for t in texts])
        )


@dataclass(frozen=True)
class Sampling:
    """Settings of a preview. side_px: side of the square picture, pixels. guidance: in the model
    row's sense (embedded or classifier-free)."""

    side_px: int
    steps: int
    guidance: float


class Family(ABC):
    """Everything that differs between models."""

    pixel_multiple: int  # crop sides are multiples of this: `token_px` x `side_tokens`
    per_sample_args: tuple[str, ...]  # block arguments with one row per draw
    # modules before the first block that are unused when front blocks are skipped; the layers of a
    # ModuleList among them take the blocks' arguments
    embedders: tuple[str, ...]
    # modules of the transformer that see nothing but the caption, each the output of the one before:
    # they run when captions are encoded, and never afterwards (caption_modules.py)
    caption_modules: tuple[str, ...]
    # whether every block reads the caption itself, in addition to the streams
    text_cross_attention: bool
    # whether what blocks make of the text depends on the caption and the LoRA alone, not on t and not
    # on the picture; text and image are then one stream, text first
    text_is_static: bool = False
    # linears of a block whose output only reaches the text stream: where no later block reads it,
    # nothing can be learnt in them
    text_outputs: tuple[str, ...]
    shared_modulation: tuple[str, ...]  # modules outside the blocks with `modulation`'s inputs
    lora_names: LoraNames  # layer names in other programs' LoRA files
    patch_size: int  # side of a token, VAE cells
    side_tokens: int = 1  # crop sides are multiples of so many tokens
    # modules that map patches to tokens and tokens to patches; None: patches cannot be merged
    # (sampling/dynamic_patches.py)
    patch_modules: tuple[str, str] | None
    tile_px: int = 512  # side of the tiles in which previews are decoded if memory is scarce
    latents_arg: str  # name of the forward's argument x_t
    # pipeline parts that `open` leaves without weights, for placement to load
    streamed_parts: tuple[str, ...]

    @property
    def token_px(self) -> int:
        """Side of an image token, pixels."""
        return self.pixel_multiple // self.side_tokens

    @property
    def masks_attention(self) -> bool:
        """Whether a mask keeps the blocks' attention from a caption's padding."""
        return any("mask" in name for name in self.per_sample_args)

    @abstractmethod
    def load(self, source: Source | Path, dtype: torch.dtype) -> DiffusionPipeline:
        """Load the diffusers pipeline into RAM, frozen. A path is a folder in diffusers' layout."""

    @abstractmethod
    def open(self, source: Source, dtype: torch.dtype) -> DiffusionPipeline:
        """Load the pipeline with its `streamed_parts` still without weights, which
        memory/streaming.py loads."""

    @abstractmethod
    def with_sibling(
        self, pipe: DiffusionPipeline, source: Source, dtype: torch.dtype
    ) -> DiffusionPipeline:
        """Return `pipe` with a sibling's transformer, still without weights, in its place, and with
        the sibling's scheduler and configuration."""

    @abstractmethod
    def with_shift(self, pipe: DiffusionPipeline, shift: float) -> DiffusionPipeline:
        """Return `pipe` with a scheduler that shifts timesteps by this number at every size."""

    @abstractmethod
    def adapt(self, transformer: nn.Module) -> None:
        """Remove what this program never runs from the library's transformer, and what repeats the
        same work for every token, in place. Its outputs stay the same. May be called twice."""

    @abstractmethod
    def text_encoders(self, pipe: DiffusionPipeline) -> list[PreTrainedModel]:
        """Return all text encoders."""

    @abstractmethod
    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return (name, block) of all stacks as one sequence of N blocks."""

    @abstractmethod
    def streams(self, block: nn.Module) -> Streams:
        """Return how the block takes and returns its streams."""

    @abstractmethod
    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        """Return the names inside `block` of linears with only t, pooled text and guidance as
        input."""

    @abstractmethod
    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """Return the names inside `block` of the linears that LoRA adapts. targets: attention |
        attention+ff."""

    @abstractmethod
    def encode_text(self, pipe: DiffusionPipeline, captions: Sequence[str], tokens: int) -> Text:
        """Encode captions into text inputs on the encoders' device. tokens: length in tokens. Runs
        `caption_modules` in place, in pipe.transformer."""

    def trim_text(self, text: Text) -> Text:
        """Return the captions of a run without the last tokens if none of them has any there."""
        return text

    @abstractmethod
    def caption_shape(self, transformer: ModelMixin, tokens: int) -> tuple[int, int, int]:
        """Return (S, width of embeds, width of pooled_or_mask) of a caption encoded with that many
        tokens."""

    def caption_states(self, transformer: ModelMixin, tokens: int) -> tuple[int, ...]:
        """Return the shape of one caption of that many tokens as the first of `caption_modules`
        takes it, (S, …); () if there are none."""
        return ()

    @abstractmethod
    def encode_images(self, pipe: DiffusionPipeline, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) in [-1, 1] into normalised latents for `inputs`: packed
        (B, T, C), or (B, C, h, w) where the transformer packs them itself."""

    @abstractmethod
    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        """Return the arguments of the transformer's forward. config: the transformer's. noisy: x_t,
        latents of B draws; t: (B,). If front blocks are skipped, only the shape of `noisy` matters;
        without `text_cross_attention` the same holds for `text.embeds`, and its last axis may be
        short."""

    @abstractmethod
    def merge_patches(self, forward_kwargs: dict, factor: int) -> dict:
        """Return the arguments of the transformer's forward with factor x factor tokens merged into
        one: the latents and the token positions change (patches.py)."""

    @abstractmethod
    def velocity(self, output: tuple) -> Tensor:
        """Return v = ε - x_0, shaped like latents, from the output of the transformer's forward."""

    def predict(self, model: nn.Module, model_kwargs: dict) -> Tensor:
        """Return v from the transformer's forward with these arguments, of `inputs`."""
        return self.velocity(model(**model_kwargs))

    @abstractmethod
    def sample(
        self,
        pipe: DiffusionPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        """Sample one picture per row of `text` with the whole model and the active LoRA."""


def get_family(name: str) -> Family:
    """Return an instance of FAMILY of the module `name` (presets/models.toml, key `family`)."""
    return import_module(f"blockskip.models.families.{name}").FAMILY()
