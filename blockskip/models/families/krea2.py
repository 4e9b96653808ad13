"""Krea 2: blocks over text and image as one sequence, Qwen3-VL as text encoder, Qwen-Image's VAE.

Facts read from diffusers 0.42.1:
- A block takes (hidden_states, temb, image_rotary_emb, attention_mask). Text comes first, the head
  drops it, and all text tokens have position 0.
- The modulation (B, 1, 6·D) is computed outside the blocks from t alone. Each block adds a table of
  its own, a parameter and no linear.
- A caption's token has the states of twelve layers of Qwen3-VL. `text_fusion` makes one of them,
  from nothing but the caption.
- Captions have a fixed length: template, caption and padding, then five tokens of the template.
  Padding is masked, in Qwen3-VL too, and takes no position, so the length changes nothing but cost.
- Guidance is counted from 0: g there is g + 1 elsewhere, and here.
- The library scales t by 1000, and does not negate the output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import Krea2Pipeline, Krea2Transformer2DModel
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3VLModel

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.patches import mean_positions
from blockskip.models.families.prompts import tokenize
from blockskip.models.families.qwen_image import QwenImage
from blockskip.models.families.streams import SingleStream, Streams
from blockskip.models.families.tapped_encoder import TappedEncoder
from blockskip.models.lora.names import DiffusersNames


class Krea2(DiffusersFamily):
    """The Krea 2 family; models/families/base.py documents the members. Latents are packed."""

    pipeline, transformer = Krea2Pipeline, Krea2Transformer2DModel
    encoder = Qwen3VLModel
    patch_modules = ("img_in", "final_layer.linear")
    # all linears of a block, as the authors' own training (krea-ai/krea-2); diffusers' script leaves
    # out ff.gate, and adapts linears outside the blocks
    attention = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_gate", "attn.to_out.0")
    feed_forward = ("ff.gate", "ff.up", "ff.down")
    per_sample_args = ("hidden_states", "temb", "attention_mask")
    embedders = ("img_in", "txt_in")
    shared_modulation = ("time_mod_proj",)
    caption_modules = ("text_fusion",)
    # ComfyUI (5697b97, July 2026) loads them as transformer.<name>: krea2_to_diffusers in
    # comfy/utils.py
    lora_names = DiffusersNames(
        "krea-2/lora",
        "https://github.com/krea-ai/krea-2",
        "krea2",
        comfy=r"transformer_blocks\.\d+\."
        r"(attn\.(to_[qkv]|to_gate|to_out\.0)|ff\.(gate|up|down))",
    )

    def text_encoders(self, pipe: Krea2Pipeline) -> list[PreTrainedModel]:
        """Return the language model; the vision tower is unused."""
        return [pipe.text_encoder.language_model]

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream()

    def encode_text(self, pipe: Krea2Pipeline, captions: Sequence[str], tokens: int) -> Text:
        """`tokens` include the suffix."""
        (encoder,) = self.text_encoders(pipe)
        prefix, suffix = pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_suffix
        dropped = pipe.prompt_template_encode_start_idx
        begin = tokenize(
            pipe.tokenizer,
            [prefix + caption for caption in captions],
            dropped + tokens - pipe.prompt_template_encode_num_suffix_tokens,
        )
        end = pipe.tokenizer([suffix] * len(captions), return_tensors="pt")
        ids, mask = (
            torch.cat([begin[name], end[name]], 1).to(encoder.device)
            for name in ("input_ids", "attention_mask")
        )
        positions = (mask.cumsum(1) - 1).clamp(min=0).expand(3, -1, -1)  # equal on all three axes
        layers = pipe.config.text_encoder_select_layers
        states = TappedEncoder(encoder, layers, in_ram=True)(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).hidden_states
        stacked = torch.stack([states[layer] for layer in layers], 2)[:, dropped:]
        valid = mask[:, dropped:].bool().cpu()
        embeds = pipe.transformer.text_fusion(stacked, attention_mask=valid[:, None, None])
        return Text(embeds, valid.to(embeds))

    def caption_shape(
        self, transformer: Krea2Transformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.text_hidden_dim, tokens

    def caption_states(self, transformer: Krea2Transformer2DModel, tokens: int) -> tuple[int, ...]:
        return tokens, transformer.config.num_text_layers, transformer.config.text_hidden_dim

    encode_images = QwenImage.encode_images

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells, length = side_px // self.pixel_multiple, text.embeds.shape[1]
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "position_ids": Krea2Pipeline.prepare_position_ids(length, cells, cells, noisy.device),
            "encoder_attention_mask": text.pooled_or_mask.bool(),
            "return_dict": False,
        }

    def merge_patches(self, forward_kwargs: dict, factor: int) -> dict:
        """The text has positions too, which stay."""
        length = forward_kwargs["encoder_hidden_states"].shape[1]
        positions = forward_kwargs["position_ids"]
        image = mean_positions(positions[length:], factor)
        merged = {"position_ids": torch.cat([positions[:length], image])}
        return super().merge_patches(forward_kwargs, factor) | merged

    def sampling_kwargs(
        self, pipe: Krea2Pipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": text.embeds.unsqueeze(2),  # the library demands an axis of layers
            "prompt_embeds_mask": text.pooled_or_mask.bool(),
            "negative_prompt_embeds": negative.embeds.unsqueeze(2),
            "negative_prompt_embeds_mask": negative.pooled_or_mask.bool(),
            "guidance_scale": guidance - 1,
        }


FAMILY = Krea2
