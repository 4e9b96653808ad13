"""Chroma: FLUX.1's blocks without their own modulation. Single blocks run over text and image as
one sequence. T5 is the only text encoder.

Facts read from diffusers 0.42.1:
- `distilled_guidance_layer` computes the modulation of all blocks from t alone, (B, rows, D). The
  forward passes each block its rows, so a window stores the whole tensor.
- Text comes first. Its padding is masked except for the first padding token.
- The mask is 1 and 0 and meant as booleans (diffusers issue 12116), but the pipeline still passes
  it as numbers, which attention adds to the scores. We pass booleans.
- The model's own gradient checkpointing drops the mask in single blocks. Ours
  (training/skipping.py) wraps whole blocks and keeps it.
- Sampling uses true classifier-free guidance with the empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel
from diffusers.models.transformers.transformer_chroma import ChromaSingleTransformerBlock
from torch import Tensor, nn
from transformers import T5EncoderModel

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.streams import DoubleStream, SingleStream, Streams
from blockskip.models.lora.names import DiffusersNames


class Chroma(DiffusersFamily):
    """The Chroma family; models/families/base.py documents the members."""

    pipeline, transformer, encoder = ChromaPipeline, ChromaTransformer2DModel, T5EncoderModel
    stacks = ("transformer_blocks", "single_transformer_blocks")
    patch_modules = ("x_embedder", "proj_out")
    feed_forward = (
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
        *("proj_mlp", "proj_out"),  # of single blocks
    )
    per_sample_args = ("hidden_states", "encoder_hidden_states", "temb", "attention_mask")
    embedders = ("x_embedder", "context_embedder")
    shared_modulation = ("distilled_guidance_layer",)
    # the header uses sd-scripts' spelling; ComfyUI treats Chroma as a FLUX.1, with FLUX.1's names
    lora_names = DiffusersNames(
        "chroma/lora",
        "https://huggingface.co/lodestones/Chroma",
        "chroma",
        comfy=r"(transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|ff(_context)?\.net\.(0\.proj|2))"
        r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out))",
    )

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream() if isinstance(block, ChromaSingleTransformerBlock) else DoubleStream()

    def encode_text(self, pipe: ChromaPipeline, captions: Sequence[str], tokens: int) -> Text:
        embeds, _, mask, *_ = pipe.encode_prompt(
            list(captions),
            do_classifier_free_guidance=False,
            device=pipe.text_encoder.device,
            max_sequence_length=tokens,
        )
        return Text(embeds, mask)

    def caption_shape(
        self, transformer: ChromaTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.joint_attention_dim, tokens

    def encode_images(self, pipe: ChromaPipeline, pixels: Tensor) -> Tensor:
        latent = super().encode_images(pipe, pixels)
        return ChromaPipeline._pack_latents(latent, *latent.shape)

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells = side_px // self.pixel_multiple
        device = noisy.device
        ids = ChromaPipeline._prepare_latent_image_ids(1, cells, cells, device, torch.float32)
        text_mask = text.pooled_or_mask.bool()
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "img_ids": ids,
            "txt_ids": torch.zeros(text.embeds.shape[1], 3, device=device),
            "attention_mask": torch.cat([text_mask, text_mask.new_ones(noisy.shape[:2])], 1),
            "return_dict": False,
        }

    def merge_patches(self, forward_kwargs: dict, factor: int) -> dict:
        """Merge patches; the mask covers text, then image, and every image token is valid."""
        merged, tokens = (
            super().merge_patches(forward_kwargs, factor),
            forward_kwargs["hidden_states"].shape[1],
        )
        return merged | {
            "attention_mask": forward_kwargs["attention_mask"][:, : tokens // factor**2 - tokens]
        }

    def sampling_kwargs(
        self, pipe: ChromaPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": text.embeds,
            "prompt_attention_mask": text.pooled_or_mask.bool(),
            "negative_prompt_embeds": negative.embeds,
            "negative_prompt_attention_mask": negative.pooled_or_mask.bool(),
            "guidance_scale": guidance,
        }


FAMILY = Chroma
