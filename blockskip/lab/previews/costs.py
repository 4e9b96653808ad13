"""Compute the cost of a preview at full size from the model's shapes alone: FLOPs per forward at
each patch size, and bytes over the bus when blocks are streamed (docs/method.md §2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blockskip.core import presets
from blockskip.lab.full_size.latent_shapes import latent_shapes
from blockskip.lab.full_size.meta_models import build_transformer, fake_gpu_for
from blockskip.lab.measuring.peak_memory import fake_gpu
from blockskip.memory.planning.model_stats import block_bytes
from blockskip.models.families.base import Family, Text, get_family
from blockskip.sampling import patch_adapters


@dataclass(frozen=True)
class PassCost:
    """The cost of one forward for one picture. tokens: image tokens. flops: of diffusers' forward.
    cached_flops: of a forward that runs only the first block."""

    tokens: int
    flops: int
    cached_flops: int


@cache
def pass_costs(model: str, side_px: int = 0) -> dict[int, PassCost]:
    """Return the cost by patch factor, where 1 is the model's own patches, at the caption length of
    its row in presets/models.toml. side_px: 0 for the row's."""
    row = presets.model_row(model)
    side_px = side_px or row.native_px
    family = get_family(row.family)
    with fake_gpu_for(row), torch.no_grad():
        shape, _ = latent_shapes(model, side_px)
        transformer = build_transformer(row, "full").to(torch.bfloat16)
        cells = side_px // family.token_px
        if len(shape) == 2:  # packed; the demo's tokens are smaller
            shape = cells**2, shape[1]
        tokens, width, pooled = family.caption_shape(transformer, row.text_tokens)
        text = Text(torch.empty(1, tokens, width), torch.empty(1, pooled)).to(torch.bfloat16)
        x, t = torch.empty(1, *shape, dtype=torch.bfloat16), torch.empty(1)
        model_inputs = family.inputs(transformer.config, x, text, t, side_px)
        costs = {}
        for factor, counter in _cost_at_each_size(transformer, family, model_inputs, t):
            counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
            blocks = [
                counts.get(f"{type(transformer).__name__}.{name}", 0)
                for name, _ in family.blocks(transformer)
            ]
            total = counter.get_total_flops()
            cached = total - sum(blocks[1:])
            costs[factor] = PassCost(cells**2 // factor**2, total, cached)
    return costs


def _cost_at_each_size(
    transformer: nn.Module, family: Family, model_inputs: dict, t: torch.Tensor
) -> Iterator[tuple[int, FlopCounterMode]]:
    linears = dict(patch_adapters.feed_forward(transformer, family))
    with FlopCounterMode(display=False, depth=4) as counter:
        transformer(**model_inputs)
    yield 1, counter
    for factor in sorted(patch_adapters.FACTORS) if family.patch_modules else ():
        with fake_gpu(torch.float32):  # which a pseudo-inverse needs
            adapter = patch_adapters.PatchAdapter(transformer, family, factor)
        adapter.to(torch.bfloat16)
        with (
            FlopCounterMode(display=False, depth=4) as counter,
            patch_adapters.adapter_installed(transformer, family, adapter, linears),
        ):
            patch_adapters.velocity(family, adapter, transformer, model_inputs, t)
        yield factor, counter


def speedup(
    costs: dict[int, PassCost], factors: Sequence[int], passes: Sequence[int] = ()
) -> float:
    """Return how many times fewer FLOPs a sampling takes than one with the model's own patches in
    every step. factors: the patch factor of each step. passes: full passes in each step, where 0
    runs the first block only and 2 redoes the step before (sampling/dynamic_patches.py); () means
    one each."""
    steps = zip(factors, passes or [1] * len(factors), strict=True)
    spent = sum(num * costs[f].flops if num else costs[f].cached_flops for f, num in steps)
    return costs[1].flops * len(factors) / spent


def bus_bytes(model: str, precision: str, passes: Sequence[int], forwards: int = 1) -> float:
    """Return the bytes of block weights that cross the bus in a sampling with all blocks streamed,
    for any batch size. passes: see `speedup`. forwards: model calls per step, 2 with
    classifier-free guidance."""
    row = presets.model_row(model)
    blocks = block_bytes(row, precision, True)
    return forwards * sum(num * sum(blocks) if num else blocks[0] for num in passes)
