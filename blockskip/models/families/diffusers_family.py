"""What families share whose model is a pipeline of the library's: a folder a part.

A family names the library's classes and the layers of its blocks; what it answers in another way, it
answers itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ModelMixin
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from blockskip.models.families.base import Family, Sampling, Text
from blockskip.models.families.patches import mean_positions, merge
from blockskip.models.sources import Source
from blockskip.models.sources.empty_model import build_empty

# of blocks where text and image attend to each other
JOINT_ATTENTION = (
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
)
_SAMPLING_PARTS = ("transformer", "vae", "scheduler")  # parts that sample encoded captions


class DiffusersFamily(Family):
    """See models/families/base.py for what the other members mean.

    pipeline, transformer: the library's classes. encoder: the class of the text encoder that is among
    `streamed_parts`. stacks: lists of blocks inside the transformer, in their order. patch_size:
    cells of the VAE that a token has to a side. patch_modules: see base.py; what has positions of
    image tokens has them as `img_ids`. attention, feed_forward: linears of a block; one that has not
    all of them adapts those it has.
    """

    pipeline: type[DiffusionPipeline]
    transformer: type[ModelMixin]
    encoder: type[PreTrainedModel]
    stacks: tuple[str, ...] = ("transformer_blocks",)
    patch_size = 2
    attention: tuple[str, ...] = JOINT_ATTENTION
    feed_forward: tuple[str, ...]

    patch_modules: tuple[str, str] | None = None
    latents_arg = "hidden_states"
    pixel_multiple = 16
    text_cross_attention = False
    shared_modulation: tuple[str, ...] = ()
    workflow: Callable[..., dict] | None = None
    streamed_parts = ("transformer", "text_encoder")

    def load(self, source: Source | Path, dtype: torch.dtype) -> DiffusionPipeline:
        folder = source.folder if isinstance(source, Source) else source
        return self.prepare(
            self.pipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        )

    def open(self, source: Source, dtype: torch.dtype) -> DiffusionPipeline:
        transformer, encoder = self.streamed_parts
        shape = self.transformer.load_config(source.folder / transformer)
        text = self.encoder.config_class.from_pretrained(source.folder / encoder)
        parts = {
            transformer: build_empty(lambda: self.transformer.from_config(shape), dtype),
            encoder: build_empty(lambda: self.encoder(text), dtype),
        }
        return self.prepare(
            self.pipeline.from_pretrained(
                source.folder, dtype=dtype, local_files_only=True, **parts
            )
        )

    def prepare(self, pipe: DiffusionPipeline) -> DiffusionPipeline:
        """The pipeline, frozen; from now on the family knows its VAE's factor."""
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * self.patch_size
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def text_encoders(self, pipe: DiffusionPipeline) -> list[PreTrainedModel]:
        return [pipe.text_encoder]

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"{stack}.{i}", block)
            for stack in self.stacks
            for i, block in enumerate(getattr(transformer, stack))
        ]

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ()

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        more = () if targets == "attention" else self.feed_forward
        return existing_modules(block, self.attention + more)

    def encode_images(self, pipe: DiffusionPipeline, pixels: Tensor) -> Tensor:
        """(B, C, H, W), not packed."""
        config = pipe.vae.config
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
        return (latent - config.shift_factor) * config.scaling_factor

    def merge_patches(self, given: dict, factor: int) -> dict:
        new = {self.latents_arg: merge(given[self.latents_arg], factor)}
        if "img_ids" in given:
            new["img_ids"] = mean_positions(given["img_ids"], factor)
        return given | new

    def velocity(self, output: tuple) -> Tensor:
        return output[0]

    @abstractmethod
    def sampling_kwargs(
        self, pipe: DiffusionPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        """Arguments of the pipeline's call for pictures of `text`, beside sides, steps and noise."""

    def sample(
        self,
        pipe: DiffusionPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        """Sample by diffusers' own pipeline, on the device of `text`. The transformer may be on
        another one: the pipeline would ask its weights where to work."""
        here = {"_execution_device": property(lambda _: text.embeds.device)}
        parts = {
            name: part if name in _SAMPLING_PARTS else None
            for name, part in pipe.components.items()
        }
        images = type(self.pipeline.__name__, (self.pipeline,), here)(**parts)
        images.set_progress_bar_config(disable=True)
        return images(
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **self.sampling_kwargs(pipe, text, negative, sampling.guidance),
        ).images


def existing_modules(block: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that modules inside the block have."""
    inside = {name for name, _ in block.named_modules()}
    return tuple(name for name in names if name in inside)
