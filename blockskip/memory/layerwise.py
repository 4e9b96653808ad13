"""What stands in the library's model while one forward takes a whole window through it, layer by layer.

Blocks, and layers before them, are brought one after the other (`layerwise`). What else has weights
is on the device all the time, and works there on some draws at a time (`offload_side_modules`).
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
    """Every block by its name, and the layers of embedders that are lists, wrapped so that each is
    brought once, `micro_batch` draws at a time go through it, and the next is fetched meanwhile.

    output_device: where what blocks give is from the first one on; None: where that one is given it.
    """
    before = [
        (f"{name}.{i}", layer)
        for name, layers in listed_embedders(model, family).items()
        for i, layer in enumerate(layers)
    ]
    every = before + family.blocks(model)
    following = [layer for _, layer in every[1:]] + [None]
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
        for i, ((name, layer), next_block) in enumerate(zip(every, following, strict=True))
    }


def listed_embedders(model: nn.Module, family: Family) -> dict[str, nn.ModuleList]:
    """Embedders by name that are lists of layers of the blocks' kind (Z-Image's refiners)."""
    every = {name: model.get_submodule(name) for name in family.embedders}
    return {name: one for name, one in every.items() if isinstance(one, nn.ModuleList)}


@contextmanager
def offload_side_modules(
    model: nn.Module, micro_batch: int, device: torch.device
) -> Iterator[None]:
    """As `in_host_memory`; on the CPU, where all is RAM, nothing changes."""
    with nullcontext() if device.type == "cpu" else in_host_memory(model, micro_batch, device):
        yield


@contextmanager
def in_host_memory(model: nn.Module, micro_batch: int, device: torch.device) -> Iterator[None]:
    """Inside, all that the library's forward does between modules happens in RAM.

    What has weights and is no block takes inputs from there, `micro_batch` draws at a time, and gives
    there; the model's own parameters are there, too. Its weights must be on `device` already.
    """
    parts = {
        name: RowChunked(module, micro_batch, device)
        for name, module in _side_modules(model)
        if next(module.parameters(), None) is not None
    }
    own = {name: one for name, one in model._parameters.items() if one is not None}
    for name, one in own.items():
        model._parameters[name] = nn.Parameter(one.to(CPU), requires_grad=False)
    try:
        with replace_modules(model, parts):
            yield
    finally:
        model._parameters.update(own)


def _side_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of what the library's forward calls besides layers of lists."""
    for name, module in model.named_children():
        if isinstance(module, nn.ModuleDict):
            yield from ((f"{name}.{key}", one) for key, one in module.items())
        elif not isinstance(module, nn.ModuleList):
            yield name, module
