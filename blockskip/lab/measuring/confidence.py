"""Confidence intervals of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000


def bootstrap(values: Sequence[float], counts: Sequence[int] | None = None) -> list[float]:
    """Return the 95 % bootstrap interval of the mean. Deterministic.

    values: (n,), resampled. counts: (n,), if values are sums over groups of these sizes.
    """
    values = np.asarray(values)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means = values[drawn].mean(1)
    if counts is not None:
        means = values[drawn].sum(1) / np.asarray(counts)[drawn].sum(1)
    return [round(float(q), 4) for q in np.quantile(means, (0.025, 0.975))]
