"""Z-Image: one sequence of image and text from the first block on, Qwen3, FLUX.1's VAE.

Facts read from diffusers 0.42.1:
- The forward takes lists: per draw an image (C, 1, H, W) and a caption (S', ·) without padding.
- Image and caption are each padded to a multiple of 32 with learnt tokens, which are not masked.
  They pass separate refiners and are joined, image first. Draws shorter than the longest of the
  batch are masked at the end.
- Positions of image tokens begin after the padded caption.
- Time runs backwards: the model takes 1 - t and returns -v.
- Sampling counts guidance from 0: v + g (v - v of the empty prompt).
- A caption is a user turn of Qwen3's chat. Its embedding is the input of the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import Qwen3Model

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.prompts import chat_prompt, tokenize
from blockskip.models.families.streams import SingleStream, Streams
from blockskip.models.families.tapped_encoder import TappedEncoder
from blockskip.models.lora.names import DiffusersNames

_PATCH = 2  # diffusers' default, which all released models use


class ZImage(DiffusersFamily):
    """The Z-Image family; models/families/base.py documents the members. Latents are packed,
    (B, T, 4·C)."""

    pipeline, transformer, encoder = ZImagePipeline, ZImageTransformer2DModel, Qwen3Model
    stacks = ("layers",)
    patch_size = _PATCH
    attention = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
    feed_forward = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
    per_sample_args = ("x", "attn_mask", "freqs_cis", "adaln_input")
    embedders = ("all_x_embedder.2-1", "cap_embedder", "noise_refiner", "context_refiner")
    # the header uses OneTrainer's and musubi-tuner's spelling
    lora_names = DiffusersNames(
        "Z-Image/lora",
        "https://github.com/Tongyi-MAI/Z-Image",
        "z-image",
        comfy=r"layers\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123]|adaLN_modulation\.0)",
    )

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream(names=("x",), image_first=True, multiple=SEQ_MULTI_OF)

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ("adaLN_modulation.0",)

    def encode_text(self, pipe: ZImagePipeline, captions: Sequence[str], tokens: int) -> Text:
        encoder, before_last = pipe.text_encoder, len(pipe.text_encoder.layers) - 1
        batch = tokenize(
            pipe.tokenizer,
            [chat_prompt(pipe.tokenizer, caption, enable_thinking=True) for caption in captions],
            tokens,
        ).to(encoder.device)
        output = TappedEncoder(encoder, [before_last])(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.bool(), use_cache=False
        )
        states = output.hidden_states[before_last]
        mask = batch.attention_mask.to(states.dtype)
        return Text(states * mask[:, :, None], mask)

    def caption_shape(
        self, transformer: ZImageTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.cap_feat_dim, tokens

    def encode_images(self, pipe: ZImagePipeline, pixels: Tensor) -> Tensor:
        return _pack_latents(super().encode_images(pipe, pixels))

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells = side_px // self.pixel_multiple
        latents = pixel_shuffle(noisy.mT.unflatten(2, (cells, cells)), _PATCH)
        return {
            "x": list(latents.unsqueeze(2)),
            "t": 1 - t,
            "cap_feats": _caption_list(text),
            "return_dict": False,
        }

    def velocity(self, output: tuple) -> Tensor:
        return -_pack_latents(torch.stack(output[0]).squeeze(2))

    def sampling_kwargs(
        self, pipe: ZImagePipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": _caption_list(text),
            "negative_prompt_embeds": _caption_list(negative),
            "guidance_scale": guidance - 1,
        }


def _pack_latents(latent: Tensor) -> Tensor:
    """Pack (B, C, H, W) into (B, T, 4·C), one token per 2 x 2 cells."""
    return pixel_unshuffle(latent, _PATCH).flatten(2).mT


def _caption_list(text: Text) -> list[Tensor]:
    """Return the captions (S', ·) without padding. `pooled_or_mask` is (B, S), 1 for valid tokens;
    on the meta device (lab/full_size/simulate.py) all tokens count as valid."""
    if text.pooled_or_mask.is_meta:
        return list(text.embeds)
    lengths = (sum(value > 0 for value in row) for row in text.pooled_or_mask.tolist())
    return [row[:length] for row, length in zip(text.embeds, lengths, strict=True)]


FAMILY = ZImage
