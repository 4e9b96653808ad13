"""Intervals of few pictures hold what they promise."""

import numpy as np
import pytest

from blockskip.runs.paired_differences import difference, t_quantile


@pytest.mark.parametrize(
    "freedom, expected",  # Abramowitz and Stegun, table 26.10
    [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (15, 2.131), (23, 2.069), (60, 2.0003)],
)
def test_quantiles_are_those_of_the_tables(freedom, expected):
    assert t_quantile(freedom) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("num", [2, 3, 4, 12])
def test_95_of_100_intervals_hold_the_truth(num):
    """Prompts differ far more than steps do: pairs must not see it. Twice the standard error, in
    place of t, holds it in 70 to 93 of 100."""
    rng, held, naive = np.random.default_rng(num), 0, 0
    for _ in range(3000):
        prompts = rng.normal(0, 5, num)
        first, second = prompts + rng.normal(0, 0.1, num), prompts + rng.normal(0.3, 0.1, num)
        found = difference(dict(enumerate(second)), dict(enumerate(first)))
        held += abs(found.mean - 0.3) <= found.half_width
        naive += abs(found.mean - 0.3) <= 2 * found.error
    assert 0.94 < held / 3000 < 0.96 and naive / 3000 < (0.94 if num < 12 else 0.96)


def test_only_pairs_count_in_any_order_and_one_has_no_spread():
    more, less = {"a": 0.5, "b": 0.7, "c": 9.0}, {"d": 9.0, "b": 0.5, "a": 0.4}
    found = difference(more, less)
    assert (found.num, found.mean) == (2, pytest.approx(0.15))
    assert difference(dict(reversed(more.items())), less) == found
    assert difference({"a": 1.0}, {"a": 0.0}) is None and difference({}, less) is None
