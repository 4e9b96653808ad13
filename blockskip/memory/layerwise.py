"""Wrappers that let one diffusers forward stream a whole window through the model, layer by layer.

Blocks, and layers before them, are loaded one after the other (`layerwise`). All other modules with
weights stay on the device and process a few draws at a time (`offload_side_modules`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from blockskip.memory.block_wrappers import Layerwise, RowChunked
from blockskip.memory.placement import replace_modules
from blockskip.models.families.base import Family

CPU = torch.device("cpu")


def layerwise(
    model: nn.Module,
    family: Family,
    micro_batch: int,
    device: torch.device,
    output_device: torch.device | None = None,
) -> dict[str, Layerwise]:
    """Wrap every block, and every layer of a listed embedder; return the wrappers by name.

    A wrapper loads its layer once, runs `micro_batch` draws at a time through it and prefetches the
    next layer meanwhile. output_device: the device of the blocks' outputs; None: that of the first
    block's input.
    """
    before = [
        (f"{name}.{i}", layer)
        for name, layers in listed_embedders(model, family).items()
        for i, layer in enumerate(layers)
    ]
    wrapped = before + family.blocks(model)
    following = [layer for _, layer in wrapped[1:]] + [None]
    return {
        name: Layerwise(
            layer,
            micro_batch,
            family.per_sample_args,
            family.streams(layer),
            device,
            next_block,
            output_device if i >= len(before) else None,
        )
        for i, ((name, layer), next_block) in enumerate(zip(wrapped, following, strict=True))
    }


def listed_embedders(model: nn.Module, family: Family) -> dict[str, nn.ModuleList]:
    """Return the embedders that are lists of block-like layers (Z-Image's refiners), by name."""
    embedders = {name: model.get_submodule(name) for name in family.embedders}
    return {name: part for name, part in embedders.items() if isinstance(part, nn.ModuleList)}


@contextmanager
def offload_side_modules(
    model: nn.Module, micro_batch: int, device: torch.device
) -> Iterator[None]:
    """Context manager that applies `in_host_memory`; does nothing on the CPU."""
    with nullcontext() if device.type == "cpu" else in_host_memory(model, micro_batch, device):
        yield


@contextmanager
def in_host_memory(model: nn.Module, micro_batch: int, device: torch.device) -> Iterator[None]:
    """Context manager that keeps in RAM everything diffusers computes between modules.

    Modules beside the blocks read their inputs from RAM, `micro_batch` draws at a time, and write
    their outputs to RAM. Parameters held by the model itself move to RAM too. The modules' weights
    must already be on `device`.
    """
    parts = {
        name: RowChunked(module, micro_batch, device)
        for name, module in _side_modules(model)
        if next(module.parameters(), None) is not None
    }
    parameters = {name: value for name, value in model._parameters.items() if value is not None}
    for name, value in parameters.items():
        model._parameters[name] = nn.Parameter(value.to(CPU), requires_grad=False)
    try:
        with replace_modules(model, parts):
            yield
    finally:
        model._parameters.update(parameters)


def _side_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of the model's children: members of module dicts, no module lists."""
    for name, module in model.named_children():
        if isinstance(module, nn.ModuleDict):
            yield from ((f"{name}.{key}", part) for key, part in _side_modules(module))
        elif not isinstance(module, nn.ModuleList):
            yield name, module
