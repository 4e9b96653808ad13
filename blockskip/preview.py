"""Adapter → sample images, from the full model with the LoRA as it is now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from blockskip.config import Settings
from blockskip.families.base import Family, Sampling, Text
from blockskip.flow import generator
from blockskip.memory.placement import replaced, resident
from blockskip.residuals import beside, layerwise

CPU = torch.device("cpu")
TOGETHER = 8  # pictures that are sampled at the same time
TILE_PX = 512


def preview_seeds(settings: Settings, num: int) -> list[int]:
    """Seeds of a run's previews: the same at every step, so that pictures can be compared."""
    source = generator(settings.seed, "preview")
    return [int(torch.randint(0, 2**31, (), generator=source)) for _ in range(num)]


@torch.no_grad()
def sample(
    family: Family,
    pipe: object,
    text: Text,
    negative: Text,
    sampling: Sampling,
    seeds: Sequence[int],
    device: torch.device,
    rows: int = TOGETHER,
    tiled: bool = False,
) -> list[Image.Image]:
    """One picture a row of `text` (B, S, ·); negative: one row, used where the model needs it.

    Several pictures are made together; each sampling step brings every block that is not there
    once. rows: of them on `device` at a time, where the others wait in RAM. tiled: the VAE decodes
    them in tiles.
    """
    images, model = [], pipe.transformer
    waits = device if rows >= TOGETHER else CPU
    with ExitStack() as stack:
        stack.enter_context(replaced(model, layerwise(model, family, rows, device)))
        if rows < TOGETHER:
            stack.enter_context(beside(model, rows, device, CPU))
        stack.enter_context(resident(device, model))
        stack.enter_context(decoding(pipe.vae, device, rows, tiled))
        for start in range(0, len(seeds), TOGETHER):
            some = range(start, min(start + TOGETHER, len(seeds)))
            texts = text.rows(some)
            images += family.sample(
                pipe,
                Text(texts.embeds.to(waits), texts.pooled.to(waits)),
                negative_rows(negative, len(some), waits),
                sampling,
                [seeds[i] for i in some],
            )
    return images


@contextmanager
def decoding(vae: nn.Module, device: torch.device, rows: int, tiled: bool) -> Iterator[None]:
    """Inside, the VAE decodes on `device`: there all the time where there is room for TOGETHER
    pictures, else only while it decodes, one picture after the other."""
    before = vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size
    if tiled:
        factor = vae.tile_sample_min_size // vae.tile_latent_min_size
        vae.use_tiling = True
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_PX, TILE_PX // factor
    try:
        if rows >= TOGETHER:
            with resident(device, vae):
                yield
            return
        whole = vae.decode

        def decode(latents: Tensor, **how: object) -> object:
            with resident(device, vae):
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
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = before


def negative_rows(negative: Text, rows: int, device: torch.device) -> Text:
    """The one row of `negative` repeated."""
    repeated = negative.rows([0] * rows)
    return Text(repeated.embeds.to(device), repeated.pooled.to(device))


def write_previews(
    images: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int], folder: Path
) -> Iterator[tuple[Path, str]]:
    """Save pictures as NN.png with prompt and seed inside; gives (path, prompt) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (image, prompt, seed) in enumerate(zip(images, prompts, seeds, strict=True)):
        note = PngInfo()
        note.add_itxt("prompt", prompt)
        note.add_text("seed", str(seed))
        path = folder / f"{index:02d}.png"
        image.save(path, pnginfo=note)
        yield path, prompt
