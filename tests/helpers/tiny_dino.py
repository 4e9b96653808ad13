"""A tiny DINOv2 of random weights, in the files of the tool “likeness”."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model


def write(folder: Path) -> Path:
    """Write the real class with random weights, and return its folder."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=98, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    return folder
