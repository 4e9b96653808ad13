"""Encode the model's inputs: text embeddings once per caption, one VAE latent per draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blockskip.core.settings import Settings
from blockskip.data.crops import Crop, crop_image
from blockskip.data.photos import Photo, open_photo, scale_photo
from blockskip.data.schedule import Draw
from blockskip.memory.block_wrappers import RowChunked, per_caption_blocks
from blockskip.memory.placement import on_device, replace_modules
from blockskip.models.families.base import Family, Text
from blockskip.models.families.caption_modules import caption_modules

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

CPU = torch.device("cpu")
PHOTO_CACHE_BYTES = 512 << 20  # of scaled photos: 380 of 512 × 683 px


@torch.no_grad()
def encode_captions(
    family: Family,
    pipe: DiffusionPipeline,
    captions: Sequence[str],
    tokens: int,
    device: torch.device = CPU,
    batch: int = 16,
) -> Text:
    """Encode captions, one row each, on the CPU. Each is bit-equal to encoding it alone.

    The encoders run block by block. Each block is copied to `device`, processes `batch` captions
    one by one, and the next block is fetched meanwhile. The weights are thus read once per `batch`
    captions, and `device` never holds a whole encoder. It holds the transformer's caption modules.
    """
    model = pipe.transformer
    readers = caption_modules(model, family)
    with ExitStack() as stack:
        stack.enter_context(on_device(device, *readers.values(), keep=False))
        one_by_one = {name: RowChunked(reader, 1, device) for name, reader in readers.items()}
        stack.enter_context(replace_modules(model, one_by_one))
        for encoder in family.text_encoders(pipe):
            stack.enter_context(replace_modules(encoder, per_caption_blocks(encoder, device)))
            stack.enter_context(on_device(device, encoder))
        rows = [
            family.encode_text(pipe, captions[start : start + batch], tokens).to(CPU)
            for start in range(0, len(captions), batch)
        ]
    return Text.cat(rows)


@torch.no_grad()
def encode_draws(
    family: Family,
    pipe: DiffusionPipeline,
    photos: Sequence[Photo],
    draws: Sequence[Draw],
    settings: Settings,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
) -> Tensor:
    """Encode draws as latents x_0, (num_draws, T, C) or (num_draws, C, h, w), float32, on the CPU.

    Draws of the same crop are encoded once. progress(n, total) is called after each batch.
    """
    side, batch = settings.plan.side_px, settings.plan.encode_batch
    scaled = _ScaledPhotos(photos, settings.plan.s_max_px)
    crops = [(d.photo, Crop(d.left, d.top, d.side), d.flip) for d in draws]
    rows = {crop: i for i, crop in enumerate(dict.fromkeys(crops))}
    distinct, latents = list(rows), []
    for start in range(0, len(distinct), batch):
        images = [
            np.asarray(crop_image(scaled[photo], crop, side, flip))
            for photo, crop, flip in distinct[start : start + batch]
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device) / 127.5 - 1
        latents.append(family.encode_images(pipe, pixels).float().cpu())
        progress(start + len(images), len(distinct))
    return torch.cat(latents)[[rows[crop] for crop in crops]]


class _ScaledPhotos:
    """Photos by index, scaled to a short side of `short_px`. Those used last are kept, up to
    PHOTO_CACHE_BYTES: to decode a photo of 12 megapixels takes a third of a second."""

    def __init__(self, photos: Sequence[Photo], short_px: int) -> None:
        self._photos, self._short_px = photos, short_px
        self._kept: dict[int, Image.Image] = {}  # the one used last is at the end
        self._bytes = 0

    def __getitem__(self, index: int) -> Image.Image:
        image = self._kept.pop(index, None)
        if image is None:
            image = scale_photo(open_photo(self._photos[index].path), self._short_px)
            self._bytes += _num_bytes(image)
        self._kept[index] = image
        while self._bytes > PHOTO_CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= _num_bytes(self._kept.pop(next(iter(self._kept))))
        return image


def _num_bytes(image: Image.Image) -> int:
    """Return the bytes that Pillow holds of an RGB image: four a pixel."""
    return 4 * image.width * image.height
