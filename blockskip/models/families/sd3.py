"""Stable Diffusion 3.5, medium and large: 24 and 38 joint blocks. CLIP-L, CLIP-G and T5 encode
captions.

Facts read from diffusers 0.42.1:
- Every block takes (hidden_states, encoder_hidden_states, temb) and returns (text, image). The last
  block returns None for text.
- In medium the first 13 blocks have an additional self-attention of the image.
- In joint attention the image comes before the text.
- The image embedder adds positions from a table.
- The model predicts velocity at timesteps 0 … 1000.
- The text is CLIP's 77 tokens, followed by T5's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor, nn
from transformers import PreTrainedModel, T5EncoderModel

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import JOINT_ATTENTION, DiffusersFamily
from blockskip.models.families.streams import DoubleStream, Streams
from blockskip.models.lora.names import DiffusersNames

CLIP_TOKENS = 77  # tokens of a caption from either CLIP tokenizer
_TEXT_ONLY_LINEARS = ("attn.add_q_proj",)


class StableDiffusion3(DiffusersFamily):
    """The Stable Diffusion 3.5 family; models/families/base.py documents the members."""

    pipeline, transformer = StableDiffusion3Pipeline, SD3Transformer2DModel
    encoder = T5EncoderModel
    streamed_parts = ("transformer", "text_encoder_3")
    attention = (
        *JOINT_ATTENTION,
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    )
    feed_forward = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
    per_sample_args = ("hidden_states", "encoder_hidden_states", "temb")
    embedders = ("pos_embed", "context_embedder")
    lora_names = DiffusersNames(
        "stable-diffusion-3-5/lora",
        "https://github.com/Stability-AI/sd3.5",
        "sd3.5",
        comfy=rf"transformer_blocks\.\d+\.({'|'.join(map(re.escape, attention + feed_forward))})",
    )

    def text_encoders(self, pipe: StableDiffusion3Pipeline) -> list[PreTrainedModel]:
        return [pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3]

    def streams(self, block: nn.Module) -> Streams:
        return DoubleStream(image_first=True)

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return "norm1.linear", "norm1_context.linear"

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """Leave out the text queries of the last block: it returns no text, so they get no
        gradient."""
        names = super().lora_targets(block, targets)
        return tuple(n for n in names if n not in _TEXT_ONLY_LINEARS or not block.context_pre_only)

    def encode_text(
        self, pipe: StableDiffusion3Pipeline, captions: Sequence[str], tokens: int
    ) -> Text:
        """Encode captions. tokens: the number of T5 tokens; CLIP's 77 come before them."""
        embeds, _, pooled, _ = pipe.encode_prompt(
            list(captions),
            None,
            None,
            device=pipe.text_encoder.device,
            do_classifier_free_guidance=False,
            max_sequence_length=tokens,
        )
        return Text(embeds, pooled)

    def caption_shape(
        self, transformer: SD3Transformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        config = transformer.config
        return CLIP_TOKENS + tokens, config.joint_attention_dim, config.pooled_projection_dim

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "pooled_projections": text.pooled_or_mask,
            "timestep": t * 1000,
            "return_dict": False,
        }

    def sampling_kwargs(
        self, pipe: StableDiffusion3Pipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": text.embeds,
            "pooled_prompt_embeds": text.pooled_or_mask,
            "negative_prompt_embeds": negative.embeds,
            "negative_pooled_prompt_embeds": negative.pooled_or_mask,
            "guidance_scale": guidance,
        }


FAMILY = StableDiffusion3
