"""Adapter → sample images, from the full model with the LoRA as it is now."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, ModelMixin
from PIL import Image
from torch import Tensor, nn

from blockskip.core.errors import UserError
from blockskip.core.paths import adapter_file
from blockskip.core.settings import Settings
from blockskip.memory.layerwise import layerwise, offload_side_modules
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.base import Family, Sampling, Text
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.sampling.step_cache import CacheConfig, cache_config, step_cache_installed

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
SAMPLE_BATCH = 8  # pictures that are sampled at the same time
TILE_PX = 512


@torch.no_grad()
def sample(
    family: Family,
    pipe: DiffusionPipeline,
    text: Text,
    negative: Text,
    sampling: Sampling,
    seeds: Sequence[int],
    device: torch.device,
    rows: int = SAMPLE_BATCH,
    tiled: bool = False,
    cache: CacheConfig | None = None,
    dynamic: dynamic_patches.PatchScheduler | None = None,
) -> list[Image.Image]:
    """One picture a row of `text` (B, S, ·); negative: one row, used where the model needs it.

    Several pictures are made together; each sampling step brings every block that is not there
    once. rows: of them on `device` at a time, where the others wait in RAM. tiled: the VAE decodes
    them in tiles. cache: see step_cache.step_cache_installed; dynamic: chooses the size of patches in every step. Both
    are made of the model as it is.
    """
    images: list[Image.Image] = []
    waits = device if rows >= SAMPLE_BATCH else CPU
    with _layer_by_layer(pipe, family, device, rows), decoding(pipe.vae, device, rows, tiled):
        for start in range(0, len(seeds), SAMPLE_BATCH):
            some = range(start, min(start + SAMPLE_BATCH, len(seeds)))
            with (
                step_cache_installed(pipe, family, cache) as resting,
                dynamic.installed(resting) if dynamic else nullcontext(),
            ):
                images += family.sample(
                    pipe,
                    text.rows(some).to(waits),
                    negative_rows(negative, len(some), waits),
                    sampling,
                    [seeds[i] for i in some],
                )
    return images


@contextmanager
def _layer_by_layer(
    pipe: DiffusionPipeline, family: Family, device: torch.device, rows: int
) -> Iterator[None]:
    """Inside, the transformer works on `device`, one block after the other, on `rows` pictures at a
    time."""
    model = pipe.transformer
    with ExitStack() as stack:
        stack.enter_context(replace_modules(model, layerwise(model, family, rows, device)))
        stack.enter_context(on_device(device, model))
        if rows < SAMPLE_BATCH:
            stack.enter_context(offload_side_modules(model, rows, device))
        yield


def preview_acceleration(
    settings: Settings, steps: int, family: Family, model: nn.Module
) -> dict[str, Any]:
    """`cache` and `dynamic` of `sample`, as a run's preview speed asks for so many steps."""
    cached = {"cache": cache_config(settings.model, settings.plan.preview_speed, steps)}
    try:
        found = settings.plan.preview_speed == "fastest" and dynamic_patches.calibrated_schedule(
            settings.model, steps
        )
        if not found:
            return cached
        schedule, threshold = found
        adapters, _ = patch_adapters.load(adapter_file(settings.model), model, family)
    except UserError:
        log.exception("pictures are sampled without larger patches")
        return cached
    dynamic = dynamic_patches.PatchScheduler(model, family, adapters, schedule)
    return {"cache": FirstBlockCacheConfig(threshold), "dynamic": dynamic}


@contextmanager
def decoding(vae: ModelMixin, device: torch.device, rows: int, tiled: bool) -> Iterator[None]:
    """Inside, the VAE decodes on `device`: there all the time where there is room for SAMPLE_BATCH
    pictures, else only while it decodes, one picture after the other."""
    before = tile(vae) if tiled else {}
    try:
        if rows >= SAMPLE_BATCH:
            with on_device(device, vae):
                yield
            return
        whole = vae.decode

        def decode(latents: Tensor, **how: bool) -> tuple[Tensor]:
            with on_device(device, vae):
                parts = [
                    whole(one.to(device), return_dict=False)[0].cpu() for one in latents.split(1)
                ]
            return (torch.cat(parts),)

        vae.decode = decode
        try:
            yield
        finally:
            del vae.decode
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


def tile(vae: ModelMixin) -> dict[str, int]:
    """Let the VAE work in tiles of TILE_PX; gives what was set before. Every class of VAE has its
    own names for the sizes of tiles."""
    names = ("use_tiling", "tile_sample_", "tile_latent_")
    before = {name: value for name, value in vars(vae).items() if name.startswith(names)}
    side = next(value for name, value in before.items() if name.startswith("tile_sample_min"))
    for name, value in before.items():
        setattr(vae, name, True if name == "use_tiling" else value * TILE_PX // side)
    return before


def negative_rows(negative: Text, rows: int, device: torch.device) -> Text:
    """The one row of `negative` repeated."""
    return negative.rows([0] * rows).to(device)
