"""Sample images from the full model with its current LoRA."""

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
from blockskip.memory.streaming import weight_stores
from blockskip.models.families.base import Family, Sampling, Text
from blockskip.sampling import dynamic_patches, patch_adapters
from blockskip.sampling.step_cache import CacheConfig, cache_config, step_cache_installed

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
SAMPLE_BATCH = 8  # images sampled at the same time


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
    """Sample one image per row of `text` (B, S, ·).

    Up to SAMPLE_BATCH images are sampled together. Each step copies every block that is not on
    `device` there once. negative: one row, used if the model needs it. rows: images on `device` at
    a time; if fewer than SAMPLE_BATCH, streams wait in RAM. tiled: decode in VAE tiles. cache: see
    `step_cache_installed`. dynamic: chooses the patch size of every step. It must be created from
    the unwrapped model.
    """
    images: list[Image.Image] = []
    latents_device = device if rows >= SAMPLE_BATCH else CPU
    with _layer_by_layer(pipe, family, device, rows), decoding(pipe, family, device, rows, tiled):
        for start in range(0, len(seeds), SAMPLE_BATCH):
            batch = range(start, min(start + SAMPLE_BATCH, len(seeds)))
            with (
                step_cache_installed(pipe, family, cache) as step_cache,
                dynamic.installed(step_cache) if dynamic else nullcontext(),
            ):
                images += family.sample(
                    pipe,
                    text.rows(batch).to(latents_device),
                    negative_rows(negative, len(batch), latents_device),
                    sampling,
                    [seeds[i] for i in batch],
                )
    return images


@contextmanager
def _layer_by_layer(
    pipe: DiffusionPipeline, family: Family, device: torch.device, rows: int
) -> Iterator[None]:
    """Context manager in which the transformer runs block by block on `device`, `rows` images at
    a time."""
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
    """Return `sample`'s `cache` and `dynamic` for a run's preview speed and number of steps."""
    cached = {"cache": cache_config(settings.model, settings.plan.preview_speed, steps)}
    try:
        calibrated = (
            settings.plan.preview_speed == "fastest"
            and dynamic_patches.calibrated_schedule(settings.model, steps)
        )
        if not calibrated:
            return cached
        schedule, threshold = calibrated
        adapters, _ = patch_adapters.load(adapter_file(settings.model), model, family)
    except UserError:
        log.exception("pictures are sampled without larger patches")
        return cached
    dynamic = dynamic_patches.PatchScheduler(model, family, adapters, schedule)
    return {"cache": FirstBlockCacheConfig(threshold), "dynamic": dynamic}


@contextmanager
def decoding(
    pipe: DiffusionPipeline, family: Family, device: torch.device, rows: int, tiled: bool
) -> Iterator[None]:
    """Context manager in which the VAE decodes on `device`.

    If `rows` ≥ SAMPLE_BATCH, it stays there. Otherwise it is there only while decoding, one image
    at a time. tiled: decode in tiles of the family's side.
    """
    vae = pipe.vae
    before = tile(vae, family.tile_px) if tiled else {}
    try:
        if rows >= SAMPLE_BATCH:
            with on_device(device, vae):
                yield
            return
        decode_batch = vae.decode

        def decode(latents: Tensor, **_: bool) -> tuple[Tensor]:
            for store in weight_stores([pipe.transformer]):
                store.release_buffers()  # of a block that a step cache has fetched and skipped
            with on_device(device, vae):
                images = [
                    decode_batch(latent.to(device, vae.dtype), return_dict=False)[0].cpu()
                    for latent in latents.split(1)
                ]
            return (torch.cat(images),)

        vae.decode = decode
        try:
            yield
        finally:
            del vae.decode
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


def tile(vae: ModelMixin, side_px: int) -> dict[str, int]:
    """Make the VAE decode in tiles of that many pixels a side, and return the previous attributes.

    The names of the tile sizes differ between VAE classes.
    """
    names = ("use_tiling", "tile_sample_", "tile_latent_")
    before = {name: value for name, value in vars(vae).items() if name.startswith(names)}
    side = next(value for name, value in before.items() if name.startswith("tile_sample_min"))
    for name, value in before.items():
        setattr(vae, name, True if name == "use_tiling" else value * side_px // side)
    return before


def negative_rows(negative: Text, rows: int, device: torch.device) -> Text:
    """Repeat the single row of `negative`, on `device`."""
    return negative.rows([0] * rows).to(device)
