"""SANA: linear attention, text by cross attention, a VAE of 32 pixels a cell, Gemma-2.

Facts read from diffusers 0.42.1: a block takes everything by position and gives image tokens; every
block reads the projected caption, so the projection works in every step; modulation is one linear for
all blocks. The model predicts velocity at timesteps 0 … 1000. A caption gets the instruction that the
pipeline gives it, the empty one none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import SanaPipeline, SanaTransformer2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, Gemma2Model

from blockskip.families import sana_names
from blockskip.families.base import Sampling, Text
from blockskip.families.painter import painter
from blockskip.families.streams import Alone, Streams
from blockskip.memory.placement import empty
from blockskip.sources import Source

_ATTENTION = tuple(
    f"{attention}.{linear}"
    for attention in ("attn1", "attn2")
    for linear in ("to_q", "to_k", "to_v", "to_out.0")
)


class Sana:
    """See families/base.py for what each member means."""

    pixel_multiple = 32
    batched = ("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "timestep")
    embedders = ("patch_embed",)
    reads_text = True
    shared_modulation = ("time_embed.linear",)
    names = sana_names
    workflow = None
    large = ("transformer", "text_encoder")
    timestep_scale = 1.0

    def load(self, source: Source | Path, dtype: torch.dtype) -> SanaPipeline:
        folder = source.folder if isinstance(source, Source) else source
        return self._ready(SanaPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True))

    def open(self, source: Source, dtype: torch.dtype) -> SanaPipeline:
        shape = SanaTransformer2DModel.load_config(source.folder / "transformer")
        text = AutoConfig.from_pretrained(source.folder / "text_encoder")
        return self._ready(
            SanaPipeline.from_pretrained(
                source.folder,
                dtype=dtype,
                local_files_only=True,
                transformer=empty(lambda: SanaTransformer2DModel.from_config(shape), dtype),
                text_encoder=empty(lambda: Gemma2Model(text), dtype),
            )
        )

    def text_encoders(self, pipe: SanaPipeline) -> list[nn.Module]:
        return [pipe.text_encoder]

    def _ready(self, pipe: SanaPipeline) -> SanaPipeline:
        for part in (pipe.transformer, pipe.vae, pipe.text_encoder):
            part.requires_grad_(False).eval()
        self.pixel_multiple = pipe.vae_scale_factor * pipe.transformer.config.patch_size
        self.timestep_scale = pipe.transformer.config.timestep_scale
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def blocks(self, transformer: nn.Module) -> list[tuple[str, nn.Module]]:
        return [
            (f"transformer_blocks.{i}", block)
            for i, block in enumerate(transformer.transformer_blocks)
        ]

    def streams(self, block: nn.Module) -> Streams:
        return Alone()

    def modulation(self, block: nn.Module) -> tuple[str, ...]:
        return ()

    def lora_targets(self, block: nn.Module, targets: str) -> tuple[str, ...]:
        """Attention alone for both choices: the feed-forward is of convolutions, which tools that
        load LoRAs of SANA do not all know."""
        return _ATTENTION

    def encode_text(self, pipe: SanaPipeline, captions: Sequence[str], tokens: int) -> Text:
        instruction = _instruction(pipe)
        rows = []
        for caption in captions:
            embeds, mask, *_ = pipe.encode_prompt(
                [caption],
                do_classifier_free_guidance=False,
                device=pipe.text_encoder.device,
                max_sequence_length=tokens,
                complex_human_instruction=instruction if caption else None,
            )
            rows.append(Text(embeds, mask))
        return Text.cat(rows)

    def caption_shape(self, transformer: nn.Module, tokens: int) -> tuple[int, int, int]:
        return tokens, transformer.config.caption_channels, tokens

    def encode_images(self, pipe: SanaPipeline, pixels: Tensor) -> Tensor:
        latent = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent
        return latent * pipe.vae.config.scaling_factor

    def inputs(self, noisy: Tensor, text: Text, t: Tensor, side_px: int, guidance: bool) -> dict:
        return {
            "hidden_states": noisy,
            "encoder_hidden_states": text.embeds,
            "encoder_attention_mask": text.beside,
            "timestep": t * 1000 * self.timestep_scale,
            "return_dict": False,
        }

    def velocity(self, output: object) -> Tensor:
        return output[0]

    def sample(
        self,
        pipe: SanaPipeline,
        text: Text,
        negative: Text,
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Image.Image]:
        images = painter(
            SanaPipeline, text.embeds.device, None, None, pipe.vae, pipe.transformer, pipe.scheduler
        )
        return images(
            prompt=None,
            prompt_embeds=text.embeds,
            prompt_attention_mask=text.beside,
            negative_prompt=None,
            negative_prompt_embeds=negative.embeds,
            negative_prompt_attention_mask=negative.beside,
            guidance_scale=sampling.guidance,
            height=sampling.side_px,
            width=sampling.side_px,
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            use_resolution_binning=False,
        ).images


def _instruction(pipe: SanaPipeline) -> list[str]:
    """What the library's own pipeline puts before every caption."""
    import inspect

    return inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"].default


FAMILY = Sana
