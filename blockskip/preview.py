"""Adapter → sample images, from the full model with the LoRA as it is now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from blockskip.config import Settings
from blockskip.families.base import Family, Sampling, Text
from blockskip.flow import generator
from blockskip.memory.placement import replaced, resident
from blockskip.residuals import layerwise


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
    batch: int = 8,
) -> list[Image.Image]:
    """One picture a row of `text` (B, S, ·); negative: one row, used where the model needs it.

    batch: pictures made together; each sampling step brings every block that is not there once.
    """
    images, model = [], pipe.transformer
    blocks = layerwise(model, family, batch, device)
    with replaced(model, blocks), resident(device, model, pipe.vae):
        for start in range(0, len(seeds), batch):
            rows = range(start, min(start + batch, len(seeds)))
            some = text.rows(rows)
            images += family.sample(
                pipe,
                Text(some.embeds.to(device), some.pooled.to(device)),
                negative_rows(negative, len(rows), device),
                sampling,
                [seeds[i] for i in rows],
            )
    return images


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
