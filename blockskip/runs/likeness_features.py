"""Features of pictures and photos by the tool “likeness” (presets/tools.toml), for their likeness.

DINOv2's class token, unit length; likeness is the cosine of two. It sees breed, pose and what is
around the pet, hence only the pet's frame is shown to it, on plain grey: cropping to the animal took
a false match of a public lost-pet service from .885 to .461, and left the true one at .997. Nobody
has calibrated such cosines for pets: compare them with each other, never with a fixed number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import Dinov2Model

from blockskip.data.crops import box_edges
from blockskip.data.subject_boxes import Box
from blockskip.models.sources.tools import load_tool

SIDE_PX = 224  # as the model's own preprocessing
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as there
_GREY = (124, 116, 104)  # the mean
_BATCH = 8

Progress = Callable[[int, int], None]


class Embedder:
    """The model of a tool's folder, on the processor. Raises UserError if it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.model = load_tool(Dinov2Model, folder)

    @torch.inference_mode()
    def embed(self, crops: Sequence[Image.Image], progress: Progress = lambda *_: None) -> Tensor:
        """Return unit-length features (B, D) of square crops. progress(n, total) after each
        batch."""
        rows = []
        for start in range(0, len(crops), _BATCH):
            batch = np.stack([np.asarray(crop) for crop in crops[start : start + _BATCH]])
            pixels = (torch.from_numpy(batch).float() / 255 - torch.tensor(_MEAN)) / torch.tensor(
                _STD
            )
            output = self.model(pixel_values=pixels.permute(0, 3, 1, 2))
            rows.append(F.normalize(output.last_hidden_state[:, 0], dim=1))
            progress(start + len(batch), len(crops))
        return torch.cat(rows)


def square_crop(image: Image.Image, box: Box | None) -> Image.Image:
    """Cut a picture to the pet's frame (None: all of it), pad it to a square and scale that. Nothing
    is stretched."""
    edges = box_edges(box, *image.size) if box else (0, 0, *image.size)
    part = image.convert("RGB").crop(edges)
    side = max(part.size)
    square = Image.new("RGB", (side, side), _GREY)
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
