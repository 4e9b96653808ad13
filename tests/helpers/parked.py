"""Tiny models with offloaded weights in sharded files, beside the same models in RAM."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from helpers.tiny import tiny_flux
from torch import nn

from blockskip.memory.quantised_cache import quantise_blocks
from blockskip.memory.streaming import WeightStore, offload
from blockskip.models.families.flux import Flux
from blockskip.models.sources.empty_model import build_empty
from blockskip.models.sources.tensor_reader import index_folder

CPU = torch.device("cpu")


def saved_checkpoint(folder: Path, **shape: object) -> Path:
    """Save tiny_flux(**shape) as a diffusers folder of many small shards, if it does not exist."""
    if not folder.exists():
        tiny_flux(**shape).save_pretrained(folder, max_shard_size="100KB")
    return folder


def offloaded_model(
    folder: Path, keep_bytes: float = 0, precision: str = "full", cache: Path | None = None
) -> tuple[nn.Module, WeightStore]:
    """Return the empty model of a folder, and the store that loads its weights."""
    config = FluxTransformer2DModel.load_config(folder)
    model = build_empty(lambda: FluxTransformer2DModel.from_config(config), torch.float32)
    index = index_folder(folder)
    if precision != "full":
        blocks = Flux().blocks(model)
        index = quantise_blocks(model, blocks, index, precision, cache, "print", CPU)
    return model, offload(model, index, keep_bytes)


def num_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def is_empty(model: nn.Module) -> bool:
    """Return whether only trainable parameters are loaded."""
    return all(p.is_meta for p in model.parameters() if not p.requires_grad)


KEEP_ALL = math.inf
