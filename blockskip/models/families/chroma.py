"""Chroma: FLUX.1's blocks without modulation of their own; single blocks over text and image as one
sequence; T5 alone.

Facts read from diffusers 0.42.1: `distilled_guidance_layer` makes the modulation of all blocks of t
alone, (B, rows, D), of which the forward hands each block its rows; so a window stores it whole.
Text goes first and is masked but for the first token of padding. The library's mask is 1 and 0 and
meant as true and false (its issue 12116), but its pipeline still hands it on as numbers, which
attention adds to the scores: here it is true and false. The model's own gradient checkpointing drops
the mask in single blocks; ours (training/skipping.py) wraps blocks and does not. True guidance by the empty
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel
from diffusers.models.transformers.transformer_chroma import ChromaSingleTransformerBlock
from torch import Tensor, nn
from transformers import T5EncoderModel

from blockskip.models.families.base import Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.streams import DoubleStream, SingleStream, Streams
from blockskip.models.lora.names import DiffusersNames


class Chroma(DiffusersFamily):
    """See models/families/base.py for what each member means."""

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
    # sd-scripts' spelling in the header; in ComfyUI it is a kind of FLUX.1, with its names
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

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        cells = side_px // self.pixel_multiple
        place = noisy.device
        ids = ChromaPipeline._prepare_latent_image_ids(1, cells, cells, place, torch.float32)
        reads = text.pooled_or_mask.bool()
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "img_ids": ids,
            "txt_ids": torch.zeros(text.embeds.shape[1], 3, device=place),
            "attention_mask": torch.cat([reads, reads.new_ones(noisy.shape[:2])], 1),
            "return_dict": False,
        }

    def merge_patches(self, given: dict, factor: int) -> dict:
        """The mask is of text, then image: all of the image counts."""
        new, tokens = super().merge_patches(given, factor), given["hidden_states"].shape[1]
        return new | {"attention_mask": given["attention_mask"][:, : tokens // factor**2 - tokens]}

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
