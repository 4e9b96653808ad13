"""SANA: linear attention, cross attention to text, a VAE with 32 pixels per cell, Gemma-2.

Facts read from diffusers 0.42.1:
- A block takes all arguments by position and returns image tokens.
- Every block reads the projected caption, so the projection runs in every step.
- One linear computes the modulation of all blocks.
- The model predicts velocity at timesteps 0 … 1000.
- Captions get the pipeline's instruction as a prefix, the empty caption gets none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import SanaPipeline, SanaTransformer2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import Gemma2Model

from blockskip.models.families.base import Config, Sampling, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.streams import ImageOnly, Streams
from blockskip.models.lora import sana_names


class Sana(DiffusersFamily):
    """The SANA family; models/families/base.py documents the members."""

    pipeline, transformer, encoder = SanaPipeline, SanaTransformer2DModel, Gemma2Model
    patch_size = 1
    patch_modules = ("patch_embed.proj", "proj_out")
    attention = (
        *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    )
    # it consists of convolutions, which some programs that load SANA LoRAs do not support
    feed_forward = ()
    pixel_multiple = 32
    per_sample_args = (
        "hidden_states",
        "encoder_hidden_states",
        "encoder_attention_mask",
        "timestep",
    )
    embedders = ("patch_embed",)
    text_cross_attention = True
    shared_modulation = ("time_embed.linear",)
    lora_names = sana_names

    def streams(self, block: nn.Module) -> Streams:
        return ImageOnly()

    def encode_text(self, pipe: SanaPipeline, captions: Sequence[str], tokens: int) -> Text:
        # captions pass through a layer one by one, and would share the cache
        pipe.text_encoder.config.use_cache = False
        instruction = _instruction(pipe)
        encoded: dict[str, Text] = {}
        for instructed in (True, False):  # one call prefixes all of its captions or none
            if batch := sorted({caption for caption in captions if bool(caption) == instructed}):
                embeds, mask, *_ = pipe.encode_prompt(
                    batch,
                    do_classifier_free_guidance=False,
                    device=pipe.text_encoder.device,
                    max_sequence_length=tokens,
                    complex_human_instruction=instruction if instructed else None,
                )
                encoded |= {
                    caption: Text(embeds, mask).rows([i]) for i, caption in enumerate(batch)
                }
        return Text.cat([encoded[caption] for caption in captions])

    def caption_shape(
        self, transformer: SanaTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.caption_channels, tokens

    def encode_images(self, pipe: SanaPipeline, pixels: Tensor) -> Tensor:
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent
        return latent * pipe.vae.config.scaling_factor

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "encoder_attention_mask": text.pooled_or_mask,
            "timestep": t * 1000 * config["timestep_scale"],
            "return_dict": False,
        }

    def sampling_kwargs(
        self, pipe: SanaPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt": None,
            "prompt_embeds": text.embeds,
            "prompt_attention_mask": text.pooled_or_mask,
            "negative_prompt": None,
            "negative_prompt_embeds": negative.embeds,
            "negative_prompt_attention_mask": negative.pooled_or_mask,
            "guidance_scale": guidance,
            "use_resolution_binning": False,
        }

    def sample(
        self,
        pipe: SanaPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        try:
            return super().sample(pipe, text, negative, sampling, seeds)
        except UnboundLocalError as error:  # diffusers' symptom of out of memory in the VAE
            raise torch.OutOfMemoryError("The VAE had no room for the picture.") from error


def _instruction(pipe: SanaPipeline) -> list[str]:
    """Return the instruction that the diffusers pipeline puts before every caption."""
    import inspect

    return inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"].default


FAMILY = Sana
