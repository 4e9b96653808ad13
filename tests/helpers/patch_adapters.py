"""Tiny models with adapters for larger patches."""

from __future__ import annotations

import torch
from helpers.family_cases import CASES

from blockskip.models.families.base import Text
from blockskip.sampling import patch_adapters

MERGING_FAMILIES = sorted(name for name, case in CASES.items() if case.family.patch_modules)


def model_inputs(case, side=8, num=2):
    """Return the arguments of a forward for a square picture, `side` tokens wide."""
    family, config = case.family, case.build().config
    torch.manual_seed(3)
    shape = (case.latent[0], side, side) if len(case.latent) == 3 else (side**2, case.latent[1])
    text = Text(torch.randn(num, case.tokens, case.text), case.pooled_or_mask(num, case.tokens))
    x, t = torch.randn(num, *shape), torch.full((num,), 0.7)
    return family.inputs(config, x, text, t, side * family.pixel_multiple)


def adapters(model, family, awake=False):
    """Return adapters of both sizes. awake: add noise to everything, so that nothing is zero."""
    torch.manual_seed(4)
    by_factor = {
        factor: patch_adapters.PatchAdapter(model, family, factor, rank=3)
        for factor in patch_adapters.FACTORS
    }
    for adapter in by_factor.values():
        adapter.requires_grad_(False)
        for parameter in adapter.parameters() if awake else ():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return by_factor
