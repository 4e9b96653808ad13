"""Qwen-Image-2.1: 32 blocks on one sequence, text first, Qwen3-VL as text encoder, an RGBA VAE.

Facts read from diffusers 0.42.1:
- Text is strictly causal and modulated at t = 0, the image attends to everything. What blocks make
  of the text therefore depends on neither t nor the picture (`text_is_static`).
- The modulation has one row a draw and one more, of t = 0, which all draws share. One linear beside
  the blocks makes it.
- The draws of a batch have the same layout: captions are padded at the end and masked. Positions on
  the image's frame axis begin after the padded caption.
- Two by two image tokens take one vision slot in `img_mask`, so sides are multiples of two tokens.
- A caption is a user turn after a system turn, whose tokens are dropped. Its embedding is the output
  of the last layer before the final norm. Sampling is meant to be without guidance.
- A VAE cell of 16 pixels is a token. Pictures have an alpha channel, which is opaque for photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import DiffusionPipeline, QwenImage21Pipeline, QwenImage21Transformer2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from blockskip.models.families.base import Config, Sampling, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.prompts import tokenize
from blockskip.models.families.streams import SingleStream, Streams
from blockskip.models.families.tapped_encoder import TappedEncoder
from blockskip.models.lora.names import DiffusersNames


class TextProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor for text alone: the library's reads images and videos too, for which it
    needs torchvision."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        ProcessorMixin.__init__(self, tokenizer)

    def apply_chat_template(self, conversation: list[dict], **_: object) -> list[list[int]]:
        """Return the tokens of a system turn, which the pipeline counts, as a batch of one."""
        (turn,) = conversation
        text = "".join(part["text"] for part in turn["content"])
        return [self.tokenizer.encode(f"<|im_start|>{turn['role']}\n{text}<|im_end|>\n")]


class QwenImage21(DiffusersFamily):
    """The Qwen-Image-2.1 family; models/families/base.py documents the members."""

    pipeline, transformer = QwenImage21Pipeline, QwenImage21Transformer2DModel
    encoder = Qwen3VLForConditionalGeneration
    attention = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
    feed_forward = ("img_mlp.proj", "img_mlp.gate_layer", "img_mlp.out")
    patch_size, side_tokens, pixel_multiple = 1, 2, 32
    tile_px = 384  # its VAE takes twice as much a pixel as others
    per_sample_args = ("hidden_states", "modulation", "key_valid")
    masks_attention = True
    embedders = ("img_in", "txt_in")
    text_is_static = True
    shared_modulation = ("modulation.1",)
    # ComfyUI (comfy/lora.py at 17358c8f) maps gate_layer and proj to the halves of its fused layer
    lora_names = DiffusersNames(
        "Qwen-Image-2.1/lora",
        "https://github.com/QwenLM/Qwen-Image-2.1",
        "qwen-image-2.1",
        comfy=r"transformer_blocks\.\d+\."
        r"(attn\.(to_[qkv]|to_out\.0)|img_mlp\.(proj|gate_layer|out))",
    )

    def own_parts(self, tokenizer: Callable[[str], PreTrainedTokenizerBase]) -> dict[str, object]:
        return {"processor": TextProcessor(tokenizer("processor"))}

    def text_encoders(self, pipe: DiffusionPipeline) -> list[PreTrainedModel]:
        """Return the language model; the vision tower and the language-model head are unused."""
        return [pipe.text_encoder.model.language_model]

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream()

    def encode_text(self, pipe: DiffusionPipeline, captions: Sequence[str], tokens: int) -> Text:
        (encoder,), dropped = self.text_encoders(pipe), pipe._drop_idx
        batch = tokenize(
            pipe.processor.tokenizer,
            [pipe.prompt_template_t2i.format(caption or " ") for caption in captions],
            dropped + tokens,
        ).to(encoder.device)
        last = len(encoder.layers)
        output = TappedEncoder(encoder, [last])(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        )
        mask = batch.attention_mask[:, dropped:].to(encoder.dtype)
        return Text(output.hidden_states[last][:, dropped:] * mask[:, :, None], mask)

    def caption_shape(
        self, transformer: QwenImage21Transformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.context_in_dim, tokens

    def encode_images(self, pipe: DiffusionPipeline, pixels: Tensor) -> Tensor:
        config = pipe.vae.config
        opaque = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1).to(pipe.vae.dtype)
        latent = pipe.vae.encode(opaque.unsqueeze(2)).latent_dist.mode().squeeze(2)
        mean, std = (
            torch.tensor(numbers).to(latent)[:, None, None]
            for numbers in (config.latents_mean, config.latents_std)
        )
        return ((latent - mean) / std).flatten(2).mT

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        (rows, tokens), cells = text.pooled_or_mask.shape, side_px // self.token_px
        # the library reads the layout, which meta tensors (lab/full_size/simulate.py) do not have
        device = "cpu" if noisy.is_meta else noisy.device
        # a vision slot is `side_tokens` squared
        slots = torch.arange(tokens + (cells // self.side_tokens) ** 2, device=device) >= tokens
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "encoder_hidden_states_mask": text.pooled_or_mask,
            "timestep": t,
            "img_shapes": [[(1, cells, cells)]] * rows,
            "img_mask": slots.expand(rows, -1),
            "return_dict": False,
        }

    def predict(self, model: nn.Module, model_kwargs: dict) -> Tensor:
        """Return v of the image; the transformer's output has the text before it."""
        return super().predict(model, model_kwargs)[:, -model_kwargs["hidden_states"].shape[1] :]

    def sampling_kwargs(
        self, pipe: DiffusionPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        guided = guidance > 1
        return {
            **_prompt("", text),
            **(_prompt("negative_", negative) if guided else {}),
            "true_cfg_scale": guidance,
            "use_kv_cache": False,  # blocks take a few pictures at a time, a cache is of them all
        }

    def sample(
        self,
        pipe: DiffusionPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        """Sample with the diffusers pipeline; the pictures' alpha channel is left out."""
        pictures = super().sample(pipe, text, negative, sampling, seeds)
        return [picture.convert("RGB") for picture in pictures]


def _prompt(prefix: str, text: Text) -> dict[str, Tensor]:
    """Return the pipeline's arguments for captions, cut to the longest one."""
    longest = int(text.pooled_or_mask.sum(1).max())
    return {
        f"{prefix}prompt_embeds": text.embeds[:, :longest],
        f"{prefix}prompt_embeds_mask": text.pooled_or_mask[:, :longest],
    }


FAMILY = QwenImage21
