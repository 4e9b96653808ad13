"""The library's pipelines, made to work where their inputs are."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline


def painter(
    kind: type[DiffusionPipeline], where: torch.device, *parts: object, **named: object
) -> DiffusionPipeline:
    """A pipeline of that kind and of these parts, without a bar. It works on `where`, which may be RAM
    while the transformer is on the card; the library's own would ask the transformer's weights."""
    here = {"_execution_device": property(lambda _: where)}
    made = type(kind.__name__, (kind,), here)(*parts, **named)
    made.set_progress_bar_config(disable=True)
    return made
