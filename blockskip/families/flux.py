"""FLUX.1: 19 double and 38 single blocks in the big one; text and image run as two streams through
both.

Facts read from diffusers 0.42.1: every block takes (hidden_states, encoder_hidden_states, temb) and
returns (text, image); the head reads image tokens only; text tokens have position 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from blockskip.families import flux_files, flux_names
from blockskip.families.base import Sampling, Text
from blockskip.families.flux_workflow import workflow
from blockskip.families.painter import painter
from blockskip.families.streams import Streams, TextAndImage
from blockskip.memory.placement import empty
from blockskip.sources import Source

_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
_FEED_FORWARD = (
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    "proj_mlp",
    "proj_out",
)
_MODULATION = ("norm1.linear", "norm1_context.linear", "norm.linear")


class Flux:
    """See families/base.py for what each member means."""

    pixel_multiple = 16
    batched = ("hidden_states", "encoder_hidden_states", "temb")
    embedders = ("x_embedder", "context_embedder")
    reads_text = False
    shared_modulation = ()
    names = flux_names
    workflow = staticmethod(workflow)
    large = ("transformer", "text_encoder_2")

    def load(self, source: Source | Path, dtype: torch.dtype) -> FluxPipeline:
        if isinstance(source, Source) and not source.whole:
            return self._ready(flux_files.assemble(source, dtype))
        folder = source.folder if isinstance(source, Source) else source
        return self._ready(FluxPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True))

    def open(self, source: Source, dtype: torch.dtype) -> FluxPipeline:
        if not source.whole:
            return self._ready(flux_files.assemble(source, dtype, bare=self.large))
        folder = source.folder
        shape = FluxTransformer2DModel.load_config(folder / "transformer")
        text = T5Config.from_pretrained(folder / "text_encoder_2")
        return self._ready(
            FluxPipeline.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                transformer=empty(lambda: FluxTransformer2DModel.from_config(shape), dtype),
                text_encoder_2=empty(lambda: T5EncoderModel(text), dtype),
            )
        )

    def text_encoders(self, pipe: FluxPipeline) -> list[nn.Module]:
        return [pipe.text_encoder, pipe.text_encoder_2]

    def _ready(self, pipe: FluxPipeline) -> FluxPipeline:
        for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
            part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * 2  # the VAE's factor times 2 x 2 packing
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"{stack}.{i}", block)
            for stack in ("transformer_blocks", "single_transformer_blocks")
            for i, block in enumerate(getattr(transformer, stack))
        ]

    def streams(self, block: nn.Module) -> Streams:
        return TextAndImage()

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return _present(block, _MODULATION)

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        names = _ATTENTION if targets == "attention" else _ATTENTION + _FEED_FORWARD
        return _present(block, names)

    def encode_text(self, pipe: FluxPipeline, captions: Sequence[str], tokens: int) -> Text:
        embeds, pooled, _ = pipe.encode_prompt(
            list(captions), None, device=pipe.text_encoder.device, max_sequence_length=tokens
        )
        return Text(embeds, pooled)

    def caption_shape(self, transformer: nn.Module, tokens: int) -> tuple[int, int, int]:
        config = transformer.config
        return tokens, config.joint_attention_dim, config.pooled_projection_dim

    def encode_images(self, pipe: FluxPipeline, pixels: Tensor) -> Tensor:
        config = pipe.vae.config
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
        latent = (latent - config.shift_factor) * config.scaling_factor
        return FluxPipeline._pack_latents(latent, *latent.shape)

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        cells = side_px // self.pixel_multiple
        ids = FluxPipeline._prepare_latent_image_ids(1, cells, cells, noisy.device, torch.float32)
        # a guidance-distilled model trains at guidance 1 (METHOD.md §1.3)
        strength = torch.ones(len(t), device=noisy.device) if guidance else None
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "pooled_projections": text.beside,
            "timestep": t,
            "img_ids": ids,
            "guidance": strength,
            "return_dict": False,
            "txt_ids": torch.zeros(text.embeds.shape[1], 3, device=noisy.device),
        }

    def velocity(self, output: object) -> Tensor:
        return output[0]

    def sample(
        self,
        pipe: FluxPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        distilled = pipe.transformer.config.guidance_embeds
        guided = sampling.guidance > 1 and not distilled
        parts = (pipe.scheduler, pipe.vae, None, None, None, None, pipe.transformer)
        images = painter(FluxPipeline, text.embeds.device, *parts)
        return images(
            prompt_embeds=text.embeds,
            pooled_prompt_embeds=text.beside,
            negative_prompt_embeds=negative.embeds if guided else None,
            negative_pooled_prompt_embeds=negative.beside if guided else None,
            true_cfg_scale=sampling.guidance if guided else 1.0,
            guidance_scale=sampling.guidance if distilled else 1.0,
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        ).images


def _present(block: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    inside = {name for name, _ in block.named_modules()}
    return tuple(name for name in names if name in inside)


FAMILY = Flux
