"""FLUX 3 Image Klein: blocks for text alone and for the image alone, then 28 joint blocks. Qwen3-VL
encodes captions.

Facts read from diffusers 0.42.1:
- Five blocks see the text alone and five the image alone; their streams meet in the joint blocks.
  They are embedders here, streamed one by one and never trained: of the published spans, those of
  40 % and more skip all or all but one of them.
- All blocks of a kind and mode share one modulation. The library computes it token by token, though
  it sees t alone (0 for text).
- Blocks, modulation and embedding of pictures that are given (image_cond) never run here.
- A caption is a user turn in a window of a multiple of 80 tokens. Its padding is attended to, so the
  window is part of the recipe. It has position 1 throughout, and being masked in the causal encoder
  it changes no state before it. A token's embedding joins the states after 8 layers.
- Latents are normalised with the statistics of the VAE's batch norm, over 2 x 2 patches.
- The base model uses guidance with the empty prompt. The distilled one is a flow map, which also
  takes the time of the next step, and uses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from diffusers import Flux3Transformer2DModel
from diffusers.models.transformers.transformer_flux3 import (
    Flux3AdaLayerNorm,
    Flux3ModeTransformerBlock,
    Flux3Modulation,
)
from diffusers.modular_pipelines.flux3.encoders import Flux3VaeEncoderStep
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3VLForConditionalGeneration

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.flux3_pipeline import (
    Flux3Pipeline,
    Window,
    image_positions,
    text_positions,
)
from blockskip.models.families.prompts import chat_prompt, tokenize
from blockskip.models.families.streams import DoubleStream, ImageOnly, Streams
from blockskip.models.families.tapped_encoder import TappedEncoder
from blockskip.models.lora import flux3_names

_LAYERS = (4, 8, 12, 16, 20, 24, 28, 32)  # of Qwen3-VL: Flux3TextEncoderStep's default
_WINDOW = 80  # tokens: Flux3TextEncoderStep.pad_multiple
_UNUSED = "image_cond"


class Flux3(DiffusersFamily):
    """The FLUX 3 Image Klein family; models/families/base.py documents the members."""

    pipeline, transformer = Flux3Pipeline, Flux3Transformer2DModel
    encoder = Qwen3VLForConditionalGeneration
    stacks = ("single_transformer_blocks",)
    patch_modules = ("x_embedders.image", "proj_out")
    attention = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
    feed_forward = ("ff.linear_in", "ff.linear_out")
    per_sample_args = ("hidden_states", "encoder_hidden_states", "temb_mod", "temb_mod_context")
    embedders = (
        *("x_embedders.image", "context_embedder"),
        *("early_stream_modulations.image", "early_stream_modulations.txt"),
        *("txt_mode_blocks", "mode_blocks.image"),
    )
    shared_modulation = (
        "single_stream_modulations.image.linear",
        "single_stream_modulations.txt.linear",
    )
    lora_names = flux3_names

    def adapt(self, transformer: nn.Module) -> None:
        for name in ("mode_blocks", "x_embedders", *_MODULATIONS):
            by_mode = cast(nn.ModuleDict, transformer.get_submodule(name))
            if _UNUSED in by_mode:
                del by_mode[_UNUSED]
            if name in _MODULATIONS:
                for modulation in by_mode.values():
                    modulation.__class__ = _Modulation
        transformer.norm_out.__class__ = _Norm

    def text_encoders(self, pipe: Flux3Pipeline) -> list[PreTrainedModel]:
        """Return the language model; the vision tower and the language-model head are unused."""
        return [pipe.text_encoder.model.language_model]

    def streams(self, block: nn.Module) -> Streams:
        # text alone or image alone
        return ImageOnly() if isinstance(block, Flux3ModeTransformerBlock) else DoubleStream()

    def encode_text(self, pipe: Flux3Pipeline, captions: Sequence[str], tokens: int) -> Text:
        """Encode captions, `tokens` long. `pooled_or_mask` is 1 inside a caption's own window."""
        (encoder,) = self.text_encoders(pipe)
        batch = tokenize(
            pipe.tokenizer, [chat_prompt(pipe.tokenizer, caption) for caption in captions], tokens
        ).to(encoder.device)
        mask, count = batch.attention_mask, torch.arange(tokens, device=encoder.device)
        states = TappedEncoder(encoder, _LAYERS)(
            input_ids=batch.input_ids,
            attention_mask=mask,
            position_ids=count.expand_as(mask).masked_fill(mask == 0, 1),
            use_cache=False,
        ).hidden_states
        embeds = torch.cat([states[number] for number in _LAYERS], 2)
        lengths = mask.sum(1, keepdim=True)
        return Text(embeds, (count < lengths + -lengths % _WINDOW).to(embeds))

    def trim_text(self, text: Text) -> Text:
        window = max(_widths(text))
        return Text(text.embeds[:, :window], text.pooled_or_mask[:, :window])

    def caption_shape(
        self, transformer: Flux3Transformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.joint_attention_dim, tokens

    def encode_images(self, pipe: Flux3Pipeline, pixels: Tensor) -> Tensor:
        vae = pipe.vae
        latent = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
        latent = Flux3VaeEncoderStep._patchify_latents(latent)
        mean, variance = (
            numbers.to(latent)[:, None, None]
            for numbers in (vae.bn.running_mean, vae.bn.running_var + vae.config.batch_norm_eps)
        )
        return ((latent - mean) / variance.sqrt()).flatten(2).mT

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "img_ids": image_positions(side_px // self.pixel_multiple, noisy.device),
            "txt_ids": text_positions(text.embeds).to(noisy.device),
            "return_dict": False,
        }

    def sampling_kwargs(
        self, pipe: Flux3Pipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        guided = guidance > 1 and not pipe.transformer.config.flow_map
        return {
            "windows": _windows(text),
            "negative_windows": _windows(negative) if guided else [],
            "guidance_scale": guidance,
        }


_MODULATIONS = ("early_stream_modulations", "single_stream_modulations")


class _Modulation(Flux3Modulation):
    """The library's layer, for the first of a mode's tokens, which all have the same time: (B, 1, 3
    D), which blocks broadcast."""

    def forward(self, temb: Tensor) -> Tensor:
        return super().forward(temb[:, :1])


class _Norm(Flux3AdaLayerNorm):
    """The library's layer, with the modulation of the first token for all of them."""

    def forward(self, hidden_states: Tensor, temb: Tensor) -> Tensor:
        return super().forward(hidden_states, temb[:, :1])


def _windows(text: Text) -> list[Window]:
    """Return the captions by window: their rows, and their embeddings without what is beyond."""
    widths = _widths(text)
    rows = {width: [i for i, own in enumerate(widths) if own == width] for width in widths}
    return [(some, text.embeds[some, :width]) for width, some in rows.items()]


def _widths(text: Text) -> list[int]:
    """Return the length of each caption's own window."""
    return text.pooled_or_mask.float().sum(1).int().tolist()


FAMILY = Flux3
