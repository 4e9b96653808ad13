"""FLUX.1: 19 double and 38 single blocks in the full-size model. Text and image are two streams in
both kinds.

Facts read from diffusers 0.42.1: every block takes (hidden_states, encoder_hidden_states, temb) and
returns (text, image). The head reads image tokens only. Text tokens have position 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import PreTrainedModel, T5EncoderModel

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily, existing_modules
from blockskip.models.families.streams import DoubleStream, Streams
from blockskip.models.lora import flux_names

_MODULATION = ("norm1.linear", "norm1_context.linear", "norm.linear")


class Flux(DiffusersFamily):
    """The FLUX.1 family; models/families/base.py documents the members."""

    pipeline, transformer, encoder = FluxPipeline, FluxTransformer2DModel, T5EncoderModel
    stacks = ("transformer_blocks", "single_transformer_blocks")
    patch_modules = ("x_embedder", "proj_out")
    feed_forward = (
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
        *("proj_mlp", "proj_out"),  # of single blocks
    )
    per_sample_args = ("hidden_states", "encoder_hidden_states", "temb")
    embedders = ("x_embedder", "context_embedder")
    lora_names = flux_names
    streamed_parts = ("transformer", "text_encoder_2")

    def text_encoders(self, pipe: FluxPipeline) -> list[PreTrainedModel]:
        return [pipe.text_encoder, pipe.text_encoder_2]

    def streams(self, block: nn.Module) -> Streams:
        return DoubleStream()

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return existing_modules(block, _MODULATION)

    def encode_text(self, pipe: FluxPipeline, captions: Sequence[str], tokens: int) -> Text:
        embeds, pooled, _ = pipe.encode_prompt(
            list(captions), None, device=pipe.text_encoder.device, max_sequence_length=tokens
        )
        return Text(embeds, pooled)

    def caption_shape(
        self, transformer: FluxTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        config = transformer.config
        return tokens, config.joint_attention_dim, config.pooled_projection_dim

    def encode_images(self, pipe: FluxPipeline, pixels: Tensor) -> Tensor:
        latent = super().encode_images(pipe, pixels)
        return FluxPipeline._pack_latents(latent, *latent.shape)

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells = side_px // self.pixel_multiple
        ids = FluxPipeline._prepare_latent_image_ids(1, cells, cells, noisy.device, torch.float32)
        # a guidance-distilled model trains at guidance 1 (docs/method.md §1.3)
        strength = torch.ones(len(t), device=noisy.device) if config["guidance_embeds"] else None
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "pooled_projections": text.pooled_or_mask,
            "timestep": t,
            "img_ids": ids,
            "guidance": strength,
            "return_dict": False,
            "txt_ids": torch.zeros(text.embeds.shape[1], 3, device=noisy.device),
        }

    def sampling_kwargs(
        self, pipe: FluxPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        distilled = pipe.transformer.config.guidance_embeds
        guided = guidance > 1 and not distilled
        return {
            "prompt_embeds": text.embeds,
            "pooled_prompt_embeds": text.pooled_or_mask,
            "negative_prompt_embeds": negative.embeds if guided else None,
            "negative_pooled_prompt_embeds": negative.pooled_or_mask if guided else None,
            "true_cfg_scale": guidance if guided else 1.0,
            "guidance_scale": guidance if distilled else 1.0,
        }


FAMILY = Flux
