"""Build models with shapes but without weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from blockskip.models.sources.layouts import read_config

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel


def new_part(folder: Path, part: str) -> ModelMixin | PreTrainedModel:
    """Build a part of a model in diffusers' layout from its config, with the class that
    model_index.json names, in torch's default dtype and device."""
    library, kind = read_config(folder / "model_index.json")[part]
    config = read_config(folder / part / "config.json")
    if library == "diffusers":
        return getattr(import_module("diffusers"), kind).from_config(config)
    transformers = import_module("transformers")
    return getattr(transformers, kind)(transformers.AutoConfig.for_model(**config))


def build_empty(
    build: Callable[[], ModelMixin | PreTrainedModel], dtype: torch.dtype
) -> ModelMixin | PreTrainedModel:
    """Build a frozen model on the meta device: parameters have shapes and `dtype`, but no memory.

    Non-persistent buffers (position frequencies) keep memory and dtype, as when diffusers and
    transformers load them: rounded to bfloat16, later positions in a text would change.
    """
    from accelerate import init_empty_weights

    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # from_pretrained does the same, and it sets buffers' dtypes
    try:
        with init_empty_weights(include_buffers=False):
            model = build()
    finally:
        torch.set_default_dtype(default_dtype)
    if hasattr(model, "tie_weights"):  # init_empty_weights separates tied weights
        model.tie_weights()
    saved = model.state_dict(keep_vars=True).values()
    for tensor in (*model.parameters(), *(t for t in saved if t.is_floating_point())):
        tensor.data = tensor.data.to(dtype)
    return model.requires_grad_(False).eval()
