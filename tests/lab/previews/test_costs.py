"""Costs of previews at full size: a pass over larger patches costs what its tokens say."""

from __future__ import annotations

import pytest

from blockskip.core import presets
from blockskip.lab.previews.costs import PassCost, bus_bytes, pass_costs, speedup
from blockskip.memory.planning.model_stats import block_multiply_adds


def test_passes_of_full_size_cost_less_as_patches_grow():
    costs = pass_costs("sana-1.6b")
    assert [costs[factor].tokens for factor in (1, 2, 4)] == [1024, 256, 64]
    fine, coarse = costs[1], costs[2]
    # linear attention: what is not the caption's goes with the number of tokens
    assert 3 < fine.flops / coarse.flops < 4 < fine.flops / costs[4].flops < 16
    assert all(0 < one.cached_flops < one.flops / 10 for one in costs.values())


def test_a_schedule_costs_the_sum_of_its_steps():
    costs = {1: PassCost(16, 100, 10), 2: PassCost(4, 30, 5)}
    assert speedup(costs, [1, 1]) == 1
    assert speedup(costs, [1, 2, 2]) == 300 / 160
    assert speedup(costs, [1, 1, 2], [1, 0, 0]) == 300 / 115
    assert speedup(costs, [1, 2], [1, 2]) == 200 / 160


def test_a_block_that_rests_does_not_cross_the_bus():
    whole, half = (bus_bytes("flux-dev", "int8", passes) for passes in ([1, 1], [1, 0]))
    assert whole / 2 < half < 0.55 * whole
    assert bus_bytes("flux-dev", "int8", [1, 0], forwards=2) == 2 * half
    assert bus_bytes("flux-dev", "int8", [2]) == whole


@pytest.mark.parametrize("model", ["z-image", "sd35-medium", "qwen-image-2.1"])
def test_latents_of_every_form_are_counted(model):
    """Packed by the family, packed by the transformer, and with text that the output holds too."""
    counted = pass_costs(model, 512)[1]
    row = presets.model_row(model)
    planned = 2 * row.num_blocks * block_multiply_adds(row, 512, row.text_tokens)
    assert counted.tokens == 1024 and counted.flops == pytest.approx(planned, rel=0.1)
