"""Models with shapes and no weights."""

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
    """A frozen model without weights: its parameters have shapes and `dtype`, and no bytes.

    Buffers that no file holds (frequencies of positions) are there as they were made, which is how
    the libraries load them: rounded to bfloat16, positions far into a text would be others.
    """
    from accelerate import init_empty_weights

    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as the libraries do: it decides what they make
    try:
        with init_empty_weights(include_buffers=False):
            model = build()
    finally:
        torch.set_default_dtype(usual)
    if hasattr(model, "tie_weights"):  # making it empty parted what is one tensor
        model.tie_weights()
    saved = model.state_dict(keep_vars=True).values()
    for tensor in (*model.parameters(), *(t for t in saved if t.is_floating_point())):
        tensor.data = tensor.data.to(dtype)
    return model.requires_grad_(False).eval()
