"""Intervals of means."""

import torch

from blockskip.lab.measuring.confidence import bootstrap


def test_an_interval_holds_the_mean_and_repeats():
    values = torch.tensor([0.9, 0.8, 0.95, 0.7])
    low, high = bootstrap(values)
    assert 0.7 <= low < float(values.mean()) < high <= 0.95
    assert bootstrap(values) == [low, high]
    assert bootstrap([0.5] * 8) == bootstrap([0.5]) == [0.5, 0.5]


def test_groups_of_one_are_values_and_a_larger_group_counts_more():
    values = [0.9, 0.8, 0.95, 0.7]
    assert bootstrap(values, [1] * 4) == bootstrap(values)
    assert (
        bootstrap([0.9, 7 * 0.1], [1, 7])[0] == 0.1 and bootstrap([9 * 0.9, 0.1], [9, 1])[1] == 0.9
    )
