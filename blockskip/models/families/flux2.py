"""FLUX.2 klein: double blocks, then single blocks over text and image as one sequence. Qwen3
encodes captions.

Facts read from diffusers 0.42.1:
- All blocks of a kind share one modulation, computed outside them from t alone (klein has no
  guidance embedding).
- Text comes first, and its padding is not masked.
- The embedding of a token concatenates the hidden states of three layers of the text encoder.
- Latents are normalised with the statistics of the VAE's batch norm, over 2 x 2 patches.
- The base model uses guidance with the empty prompt, the distilled model uses none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2SingleTransformerBlock
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3ForCausalLM

from blockskip.models.families.base import Config, Text
from blockskip.models.families.diffusers_family import DiffusersFamily
from blockskip.models.families.streams import DoubleStream, SingleStream, Streams
from blockskip.models.families.tapped_encoder import TappedEncoder
from blockskip.models.lora.names import DiffusersNames

# in a single block attention and feed-forward share linears, so `targets` makes no difference
_SINGLE = ("attn.to_qkv_mlp_proj", "attn.to_out")
_LAYERS = (9, 18, 27)  # layers of Qwen3 that the diffusers pipeline takes hidden states from


class Flux2(DiffusersFamily):
    """The FLUX.2 klein family; models/families/base.py documents the members."""

    pipeline, transformer = Flux2KleinPipeline, Flux2Transformer2DModel
    encoder = Qwen3ForCausalLM
    stacks = ("transformer_blocks", "single_transformer_blocks")
    patch_modules = ("x_embedder", "proj_out")
    feed_forward = (
        *("ff.linear_in", "ff.linear_out"),
        *("ff_context.linear_in", "ff_context.linear_out"),
    )
    per_sample_args = (
        "hidden_states",
        "encoder_hidden_states",
        "temb_mod_img",
        "temb_mod_txt",
        "temb_mod",
    )
    embedders = ("x_embedder", "context_embedder")
    shared_modulation = (
        "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.linear",
        "single_stream_modulation.linear",
    )
    lora_names = DiffusersNames(
        "flux-2-klein/lora",
        "https://github.com/black-forest-labs/flux2",
        "flux2-klein",
        comfy=r"(transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|ff(_context)?\.linear_(in|out))"
        r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out))",
    )

    def text_encoders(self, pipe: Flux2KleinPipeline) -> list[PreTrainedModel]:
        """Return the text encoder without its language-model head, which is unused."""
        return [pipe.text_encoder.model]

    def streams(self, block: nn.Module) -> Streams:
        return SingleStream() if isinstance(block, Flux2SingleTransformerBlock) else DoubleStream()

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        if isinstance(block, Flux2SingleTransformerBlock):
            return _SINGLE
        return super().lora_targets(block, targets)

    def encode_text(self, pipe: Flux2KleinPipeline, captions: Sequence[str], tokens: int) -> Text:
        embeds = pipe._get_qwen3_prompt_embeds(
            text_encoder=TappedEncoder(pipe.text_encoder.model, _LAYERS),
            tokenizer=pipe.tokenizer,
            prompt=list(captions),
            max_sequence_length=tokens,
            hidden_states_layers=list(_LAYERS),
        )
        return Text(embeds, embeds.new_zeros(len(captions), 0))

    def caption_shape(
        self, transformer: Flux2Transformer2DModel, tokens: int
    ) -> tuple[int, int, int]:
        return tokens, transformer.config.joint_attention_dim, 0

    def encode_images(self, pipe: Flux2KleinPipeline, pixels: Tensor) -> Tensor:
        vae = pipe.vae
        latent = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
        latent = Flux2KleinPipeline._patchify_latents(latent)
        mean, variance = (
            numbers.to(latent)[:, None, None]
            for numbers in (vae.bn.running_mean, vae.bn.running_var)
        )
        return Flux2KleinPipeline._pack_latents(
            (latent - mean) / (variance + vae.config.batch_norm_eps).sqrt()
        )

    def inputs(self, config: Config, noisy: Tensor, text: Text, t: Tensor, side_px: int) -> dict:
        cells = side_px // self.pixel_multiple
        image_ids = Flux2KleinPipeline._prepare_latent_ids(torch.empty(1, 0, cells, cells))
        text_ids = Flux2KleinPipeline._prepare_text_ids(text.embeds[:1])
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "timestep": t,
            "img_ids": image_ids.to(noisy.device),
            "txt_ids": text_ids.to(noisy.device),
            "guidance": None,
            "return_dict": False,
        }

    def sampling_kwargs(
        self, pipe: Flux2KleinPipeline, text: Text, negative: Text, guidance: float
    ) -> dict[str, object]:
        return {
            "prompt_embeds": text.embeds,
            "negative_prompt_embeds": negative.embeds,
            "guidance_scale": 1.0 if pipe.config.is_distilled else guidance,
        }


FAMILY = Flux2
