"""Qwen-Image: 60 double blocks, Qwen2.5-VL as text encoder, a video VAE used on one frame.

Facts read from diffusers 0.42.1:
- Every block takes (hidden_states, encoder_hidden_states, encoder_hidden_states_mask, temb) and
  returns (text, image). The head reads image tokens only.
- The prompt template has a system turn and a user turn with the caption. The states of the first 34
  tokens, the instruction, are dropped.
- There is no embedded guidance. Sampling uses true classifier-free guidance, with a space as the
  empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2_5_VLForConditionalGeneration

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.prompts import tokenize
from blockskip.models.families.streams import DoubleStream, Streams
from blockskip.models.lora.names import DiffusersNames


class QwenImage(DiffusersFamily):
    """The Qwen-Image family; models/families/base.py documents the members."""

    pipeline, transformer = QwenImagePipeline, QwenImageTransformer2DModel
    encoder = Qwen2_5_VLForConditionalGeneration
    feed_forward = (
        *("img_mlp.net.0.proj", "img_mlp.net.2"),
        *("txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    per_sample_args = (
        "hidden_states",
        "encoder_hidden_states",
        "encoder_hidden_states_mask",
        "temb",
    )
    embedders = ("img_in", "txt_norm", "txt_in")
    # the header uses OneTrainer's and musubi-tuner's spelling
    lora_names = DiffusersNames(
        "Qwen-Image/lora",
        "https://github.com/QwenLM/Qwen-Image",
        "qwen-image",
        comfy=r"transformer_blocks\.\d+\."
        r"(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|(img|txt)_(mlp\.net\.(0\.proj|2)|mod\.1))",
    )

    def text_encoders(self, pipe: QwenImagePipeline) -> list[PreTrainedModel]:
        """Return the language model; the vision tower and the language-model head are unused."""
        return [pipe.text_encoder.model.language_model]

    def streams(self, block: nn.Module) -> Streams:
        return DoubleStream()

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ("img_mod.1", "txt_mod.1")

    def encode_text(self, pipe: QwenImagePipeline, captions: Sequence[str], tokens: int) -> Text:
        (encoder,) = self.text_encoders(pipe)
        template, dropped = pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx
        batch = tokenize(
            pipe.tokenizer,
            [template.format(caption or " ") for caption in captions],
            dropped + tokens,
        ).to(encoder.device)
        # a single row, because the layers run on one caption at a time; equal on all three axes
        positions = torch.arange(dropped + tokens, device=encoder.device).expand(3, 1, -1)
        states = encoder(batch.input_ids, batch.attention_mask, positions, use_cache=False)[0]
        mask = batch.attention_mask[:, dropped:].to(states.dtype)
        return Text(states[:, dropped:] * mask[:, :, None], mask)

    def caption_shape(
        self, transformer: QwenImageTransformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.joint_attention_dim, tokens

    def encode_images(self, pipe: QwenImagePipeline, pixels: Tensor) -> Tensor:
        config = pipe.vae.config
        frames = pixels.to(pipe.vae.dtype).unsqueeze(2)
        latent = pipe.vae.encode(frames).latent_dist.mode().squeeze(2)
        mean, std = (
            torch.tensor(numbers).to(latent)[:, None, None]
            for numbers in (config.latents_mean, config.latents_std)
        )
        return QwenImagePipeline._pack_latents((latent - mean) / std, *latent.shape)

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells = side_px // self.pixel_multiple
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "encoder_hidden_states_mask": text.pooled_or_mask,
            "timestep": t,
            "img_shapes": [[(1, cells, cells)]] * len(noisy),
            "return_dict": False,
        }

    def sampling_kwargs(
        self, pipe: QwenImagePipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        guided = guidance > 1
        return {
            "prompt_embeds": text.embeds,
            "prompt_embeds_mask": text.pooled_or_mask,
            "negative_prompt_embeds": negative.embeds if guided else None,
            "negative_prompt_embeds_mask": negative.pooled_or_mask if guided else None,
            "true_cfg_scale": guidance,
            "max_sequence_length": text.embeds.shape[1],
        }


FAMILY = QwenImage
