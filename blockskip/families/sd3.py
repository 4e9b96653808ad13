"""Stable Diffusion 3.5, medium and large: 24 and 38 joint blocks; CLIP-L, CLIP-G and T5 read captions.

Facts read from diffusers 0.42.1: every block takes (hidden_states, encoder_hidden_states, temb) and
returns (text, image), the last one None for text. In medium the first 13 blocks have a second
attention, of the image with itself. In attention the image stands before the text. Positions are a
table that the image embedder adds. The model predicts velocity at timesteps 0 … 1000. The text is
CLIP's tokens (77), and behind them T5's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from blockskip.families.base import Sampling, Text
from blockskip.families.names import LibraryNames
from blockskip.families.painter import painter
from blockskip.families.streams import Streams, TextAndImage
from blockskip.memory.placement import empty
from blockskip.sources import Source

_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
)
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
CLIP_TOKENS = 77  # that both of its tokenizers make
_OF_TEXT_ALONE = ("attn.add_q_proj",)


class StableDiffusion3:
    """See families/base.py for what each member means."""

    pixel_multiple = 16
    batched = ("hidden_states", "encoder_hidden_states", "temb")
    embedders = ("pos_embed", "context_embedder")
    reads_text = False
    shared_modulation = ()
    names = LibraryNames(
        "stable-diffusion-3-5/lora",
        "https://github.com/Stability-AI/sd3.5",
        "sd3.5",
        comfy=rf"transformer_blocks\.\d+\.({'|'.join(map(re.escape, _ATTENTION + _FEED_FORWARD))})",
    )
    workflow = None
    large = ("transformer", "text_encoder_3")

    def load(self, source: Source | Path, dtype: torch.dtype) -> StableDiffusion3Pipeline:
        folder = source.folder if isinstance(source, Source) else source
        return self._ready(
            StableDiffusion3Pipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        )

    def open(self, source: Source, dtype: torch.dtype) -> StableDiffusion3Pipeline:
        shape = SD3Transformer2DModel.load_config(source.folder / "transformer")
        text = T5Config.from_pretrained(source.folder / "text_encoder_3")
        return self._ready(
            StableDiffusion3Pipeline.from_pretrained(
                source.folder,
                dtype=dtype,
                local_files_only=True,
                transformer=empty(lambda: SD3Transformer2DModel.from_config(shape), dtype),
                text_encoder_3=empty(lambda: T5EncoderModel(text), dtype),
            )
        )

    def text_encoders(self, pipe: StableDiffusion3Pipeline) -> list[nn.Module]:
        return [pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3]

    def _ready(self, pipe: StableDiffusion3Pipeline) -> StableDiffusion3Pipeline:
        for part in (pipe.transformer, pipe.vae, *self.text_encoders(pipe)):
            part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * pipe.transformer.config.patch_size
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"transformer_blocks.{i}", block)
            for i, block in enumerate(transformer.transformer_blocks)
        ]

    def streams(self, block: nn.Module) -> Streams:
        return TextAndImage(image_first=True)

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return "norm1.linear", "norm1_context.linear"

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """The last block gives no text: what asks for it there could learn nothing."""
        names = _ATTENTION if targets == "attention" else _ATTENTION + _FEED_FORWARD
        there = {name for name, _ in block.named_modules()}
        if block.context_pre_only:
            there -= {*_OF_TEXT_ALONE}
        return tuple(name for name in names if name in there)

    def encode_text(
        self, pipe: StableDiffusion3Pipeline, captions: Sequence[str], tokens: int
    ) -> Text:
        """tokens: T5's; CLIP's, as many as its tokenizer has (77), stand before them."""
        embeds, _, pooled, _ = pipe.encode_prompt(
            list(captions),
            None,
            None,
            device=pipe.text_encoder.device,
            do_classifier_free_guidance=False,
            max_sequence_length=tokens,
        )
        return Text(embeds, pooled)

    def caption_shape(self, transformer: nn.Module, tokens: int) -> tuple[int, int, int]:
        config = transformer.config
        return CLIP_TOKENS + tokens, config.joint_attention_dim, config.pooled_projection_dim

    def encode_images(self, pipe: StableDiffusion3Pipeline, pixels: Tensor) -> Tensor:
        config = pipe.vae.config
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
        return (latent - config.shift_factor) * config.scaling_factor

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "pooled_projections": text.beside,
            "timestep": t * 1000,
            "return_dict": False,
        }

    def velocity(self, output: object) -> Tensor:
        return output[0]

    def sample(
        self,
        pipe: StableDiffusion3Pipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        parts = (pipe.transformer, pipe.scheduler, pipe.vae)
        images = painter(
            StableDiffusion3Pipeline, text.embeds.device, *parts, None, None, None, None, None, None
        )
        return images(
            prompt_embeds=text.embeds,
            pooled_prompt_embeds=text.beside,
            negative_prompt_embeds=negative.embeds,
            negative_pooled_prompt_embeds=negative.beside,
            guidance_scale=sampling.guidance,
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images


FAMILY = StableDiffusion3
