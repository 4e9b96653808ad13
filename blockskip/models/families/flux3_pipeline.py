"""FLUX 3's pipeline from text to image as one class, which diffusers has only in modular form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLFlux2,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux3Transformer2DModel,
)
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import Flux3LoraLoaderMixin
from diffusers.modular_pipelines.flux3.before_denoise import (
    Flux3SetTimestepsStep,
    Flux3TextRoPEInputsStep,
    _prepare_image_ids,
)
from diffusers.modular_pipelines.flux3.decoders import Flux3DecodeStep
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

from blockskip.models.sources import data_only

ROPE_SCALE = 0.5  # of the positions of image tokens: Flux3PrepareLatentsStep.image_rope_scale

# captions of one window, (B, window, D), and their rows in the batch
Window = tuple[list[int], Tensor]


class Flux3Pipeline(DiffusionPipeline, Flux3LoraLoaderMixin):
    """The steps of diffusers' Flux3ModularPipeline, and those of the distilled one for a
    transformer that is a flow map, for captions that are encoded already."""

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLFlux2,
        text_encoder: Qwen3VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        transformer: Flux3Transformer2DModel,
    ) -> None:
        super().__init__()
        self.register_modules(
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype, **options: Any) -> Flux3Pipeline:
        """Load the parts that are not given from a folder that Flux3ModularPipeline has saved. It
        saves no scheduler, unless another than its own was loaded into it. options: parts, beside
        those of data_only.WEIGHTS, which hold here anyway."""
        parts = {name: part for name, part in options.items() if name not in data_only.WEIGHTS}
        kinds = {
            "transformer": Flux3Transformer2DModel,
            "text_encoder": Qwen3VLForConditionalGeneration,
            "vae": AutoencoderKLFlux2,
        }
        for part in kinds.keys() - parts.keys():
            parts[part] = kinds[part].from_pretrained(
                folder / part, dtype=dtype, **data_only.MODULE
            )
        scheduler, tokenizer = folder / "scheduler", folder / "tokenizer"
        parts["scheduler"] = (
            FlowMatchEulerDiscreteScheduler.from_pretrained(scheduler)
            if scheduler.exists()
            else FlowMatchEulerDiscreteScheduler(shift=Flux3SetTimestepsStep().shift)
        )
        parts["tokenizer"] = AutoTokenizer.from_pretrained(tokenizer, **data_only.TEXTS)
        if not parts["tokenizer"].chat_template:
            raise ValueError(f"{tokenizer.name} has no chat template")
        return cls(**parts)

    @torch.no_grad()
    def __call__(
        self,
        height: int,
        width: int,
        num_inference_steps: int,
        generator: Sequence[torch.Generator],
        windows: Sequence[Window],
        negative_windows: Sequence[Window],
        guidance_scale: float,
    ) -> SimpleNamespace:
        """Sample one picture per generator. Return `images`. negative_windows: empty to sample
        without guidance."""
        model, scheduler, device = self.transformer, self.scheduler, self._execution_device
        cells = tuple(side // (2 * self.vae_scale_factor) for side in (height, width))
        shape = (model.config.in_channels, *cells)
        noise = torch.stack([torch.randn(shape, generator=seeded) for seeded in generator])
        latents = noise.to(device, windows[0][1].dtype).flatten(2).mT
        steps = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(sigmas=steps, device=device)
        scheduler.set_begin_index(0)
        for i, time in enumerate(scheduler.timesteps):
            options = {"timestep": time, "img_ids": _prepare_image_ids(*cells, ROPE_SCALE)}
            if model.config.flow_map:
                options["target_timestep"] = [*scheduler.timesteps, torch.zeros_like(time)][i + 1]
            velocity = self._velocity(latents, windows, options)
            if negative_windows:
                unguided = self._velocity(latents, negative_windows, options)
                velocity = unguided + guidance_scale * (velocity - unguided)
            latents = scheduler.step(velocity, time, latents, return_dict=False)[0]
        return SimpleNamespace(images=self._decode(latents.mT.unflatten(2, cells)))

    def _velocity(
        self, latents: Tensor, windows: Sequence[Window], options: dict[str, Tensor]
    ) -> Tensor:
        """Return the transformer's velocity. Captions of different windows pass one after the
        other: their padding is attended to, so they cannot be padded to one length."""
        velocity = torch.empty_like(latents)
        for rows, embeds in windows:
            some = latents[rows]
            times = {
                name: (value / 1000).expand(len(rows)).to(some)
                for name, value in options.items()
                if name != "img_ids"
            }
            velocity[rows] = self.transformer(
                hidden_states=some,
                encoder_hidden_states=embeds,
                img_ids=options["img_ids"].to(some.device),
                txt_ids=text_positions(embeds),
                return_dict=False,
                **times,
            )[0]
        return velocity

    def _decode(self, latents: Tensor) -> list:
        """Return the pictures of latents (B, C, h, w)."""
        vae = self.vae
        mean, variance = (
            numbers.to(latents)[:, None, None]
            for numbers in (vae.bn.running_mean, vae.bn.running_var + vae.config.batch_norm_eps)
        )
        latents = Flux3DecodeStep._unpatchify_latents(latents * variance.sqrt() + mean)
        pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return VaeImageProcessor().postprocess(pixels, output_type="pil")


def image_positions(cells: int, device: torch.device) -> Tensor:
    """Return the positions (T, 4) of the tokens of a square picture."""
    return _prepare_image_ids(cells, cells, ROPE_SCALE).to(device)


def text_positions(embeds: Tensor) -> Tensor:
    """Return the positions (S, 4) of a caption's tokens."""
    return Flux3TextRoPEInputsStep._prepare_text_ids(embeds).to(embeds.device)
