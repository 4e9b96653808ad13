"""Build models with shapes but without weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from blockskip.models.sources.layouts import read_config, read_index

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel


def new_part(folder: Path, part: str) -> ModelMixin | PreTrainedModel:
    """Build a part of a model in diffusers' layout from its config, with the class that the
    pipeline's index names, in torch's default dtype and device."""
    library, kind = read_index(folder)[part]
    config = read_config(folder / part / "config.json")
    if library == "diffusers":
        return getattr(import_module("diffusers"), kind).from_config(config)
    transformers = import_module("transformers")
    return getattr(transformers, kind)(transformers.AutoConfig.for_model(**config))


def build_empty(
    build: Callable[[], ModelMixin | PreTrainedModel], dtype: torch.dtype
) -> ModelMixin | PreTrainedModel:
    """Build a frozen model on the meta device: parameters have shapes and `dtype` (`set_dtype`),
    but no memory.

    Non-persistent buffers (position frequencies) keep memory and dtype, as when diffusers and
    transformers load them: rounded to bfloat16, later positions in a text would change. Buffers
    that files hold have memory, but no values yet: Stable Diffusion 3.5 Medium's table of positions
    would take seconds and 3.6 GB to compute.
    """
    from accelerate import init_empty_weights

    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # from_pretrained does the same, and it sets buffers' dtypes
    try:
        with torch.device("meta"):
            model = build()
        if _has_constants(model):
            with init_empty_weights(include_buffers=False):
                model = build()
    finally:
        torch.set_default_dtype(default_dtype)
    if hasattr(model, "tie_weights"):  # init_empty_weights separates tied weights
        model.tie_weights()
    set_dtype(model, dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:  # memory that is not taken before it is written
                module.register_buffer(name, torch.empty_like(buffer, device="cpu"))
    return model.requires_grad_(False).eval()


def _has_constants(model: nn.Module) -> bool:
    """Return whether a model has tensors that no file holds: non-persistent buffers, or attributes
    of its modules."""
    saved = model.state_dict()
    if any(name not in saved for name, _ in model.named_buffers()):
        return True
    registered = ("_parameters", "_buffers", "_modules")
    attributes = [
        {name: value for name, value in vars(module).items() if name not in registered}
        for module in model.modules()
    ]
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(attributes))


def set_dtype(model: ModelMixin | PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert the weights of a model to `dtype`, except those that its library keeps in float32."""
    saved = model.state_dict(keep_vars=True)
    tensors = saved | dict(model.named_parameters())
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if _is_kept(model, name) else dtype)


def _is_kept(model: ModelMixin | PreTrainedModel, name: str) -> bool:
    """Return whether the library keeps this weight in float32 whatever type it loads a model in.

    For transformers that is only `_keep_in_fp32_modules_strict`, which diffusers does not have; its
    other list is for float16, in which nothing is opened.
    """
    lists = ("_keep_in_fp32_modules_strict", "_keep_in_fp32_modules")
    kept = next((getattr(model, name) for name in lists if hasattr(model, name)), None)
    return not set(kept or ()).isdisjoint(name.split("."))
