"""What a preview of a model of full size costs, from its shapes alone: operations of a pass over each
size of patches, and bytes that cross the bus where blocks are streamed (docs/method.md §2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blockskip.core import presets
from blockskip.lab.full_size.meta_models import build_transformer
from blockskip.memory.planning.model_stats import block_bytes
from blockskip.models.families.base import Family, Text, get_family
from blockskip.sampling import patch_adapters


@dataclass(frozen=True)
class PassCost:
    """One forward of one picture. tokens: of the image. flops: as the library's forward makes them;
    resting: of a forward in which all blocks rest but the first."""

    tokens: int
    flops: int
    cached_flops: int


@cache
def pass_costs(model: str) -> dict[int, PassCost]:
    """By factor of the patches, 1 for the model's own; at the side and the captions of its row."""
    row = presets.model_row(model)
    family = get_family(row.family)
    with torch.device("meta"), torch.no_grad():
        transformer = build_transformer(row, "full").to(torch.bfloat16)
        cells = row.native_px // family.pixel_multiple
        channels = transformer.config.in_channels
        shape = (cells**2, channels) if family.patch_size > 1 else (channels, cells, cells)
        tokens, width, beside = family.caption_shape(transformer, row.text_tokens)
        told = Text(torch.empty(1, tokens, width), torch.empty(1, beside)).to(torch.bfloat16)
        x, t = torch.empty(1, *shape, dtype=torch.bfloat16), torch.empty(1)
        guided = bool(getattr(transformer.config, "guidance_embeds", False))
        given = family.inputs(x, told, t, row.native_px, guided)
        found = {}
        for factor, counter in _cost_at_each_size(transformer, family, given, t):
            counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
            blocks = [
                counts.get(f"{type(transformer).__name__}.{name}", 0)
                for name, _ in family.blocks(transformer)
            ]
            total = counter.get_total_flops()
            rest = total - sum(blocks[1:])
            found[factor] = PassCost(cells**2 // factor**2, total, rest)
    return found


def _cost_at_each_size(
    transformer: nn.Module, family: Family, given: dict, t: torch.Tensor
) -> Iterator[tuple[int, FlopCounterMode]]:
    linears = dict(patch_adapters.feed_forward(transformer, family))
    with FlopCounterMode(display=False, depth=4) as counter:
        transformer(**given)
    yield 1, counter
    for factor in sorted(patch_adapters.FACTORS) if family.patch_modules else ():
        adapter = patch_adapters.PatchAdapter(transformer, family, factor)
        with (
            FlopCounterMode(display=False, depth=4) as counter,
            patch_adapters.adapter_installed(transformer, family, adapter, linears),
        ):
            patch_adapters.velocity(family, adapter, transformer, given, t)
        yield factor, counter


def speedup(
    costs: dict[int, PassCost], factors: Sequence[int], passes: Sequence[int] = ()
) -> float:
    """How much fewer operations a sampling takes than with the model's own patches in every step.
    factors: of its steps. passes: through all blocks in each of them; 0: all rest but the first, 2:
    one of them for the step before (sampling/dynamic_patches.py); (): one each."""
    steps = zip(factors, passes or [1] * len(factors), strict=True)
    spent = sum(num * costs[f].flops if num else costs[f].cached_flops for f, num in steps)
    return costs[1].flops * len(factors) / spent


def bus_bytes(model: str, precision: str, passes: Sequence[int], forwards: int = 1) -> float:
    """Bytes of blocks that cross the bus in a sampling whose blocks are all streamed, whatever the
    number of pictures that are sampled together. passes: see `speedup`. forwards: of the model a step
    (2 with guidance by two calls)."""
    row = presets.model_row(model)
    blocks = [block_bytes(row, i, precision, True) for i in range(row.num_blocks)]
    return forwards * sum(num * sum(blocks) if num else blocks[0] for num in passes)
