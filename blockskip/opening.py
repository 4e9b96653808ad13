"""A model's folder → its pipeline, ready to be used: the large parts wait in their files.

The small parts (VAE, CLIP) are loaded; the transformer and the large text encoder are shells whose
weights memory/stream.py brings when they work, quantised first where the settings say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from blockskip import sources
from blockskip.config import ModelRow, Settings
from blockskip.families.base import Family
from blockskip.memory.quantise import cache_folder, quantised
from blockskip.memory.stream import park
from blockskip.memory.weights import Index, index_folder
from blockskip.runs import data_dir


def open_model(
    kind: Family,
    row: ModelRow,
    folder: Path,
    settings: Settings,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda n, total: None,
) -> object:
    """The library's pipeline of a diffusers folder, frozen; progress(n, total) while quantising.

    Raises UserError when weights are missing, broken, or the disk is full.
    """
    pipe = kind.open(folder, getattr(torch, row.dtype))
    for name in kind.large:
        part, index = getattr(pipe, name), index_folder(folder / name)
        if name != "transformer":
            park(part, index)
            continue
        if settings.precision != "full":
            index = _quantised(kind, part, index, folder, settings.precision, device, progress)
        park(part, index, math.inf if settings.offload == "ram" else 0)
    return pipe


def _quantised(
    kind: Family,
    model: nn.Module,
    index: Index,
    folder: Path,
    precision: str,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> Index:
    mark = sources.fingerprint(folder)
    cache = cache_folder(data_dir(), mark, precision)
    return quantised(model, kind.blocks(model), index, precision, cache, mark, device, progress)
