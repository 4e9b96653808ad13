"""Build models with shapes but without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel


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
