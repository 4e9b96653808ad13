"""Differences between two sets of pictures of the same prompts and seeds, with their intervals."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
# 97.5 % quantiles of Student's t for 1, 2, 3 … degrees of freedom
_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.95996


@dataclass(frozen=True)
class Difference:
    """A mean difference. error: its standard error. num: of how many pairs. All hold for other
    pictures of the same prompts, and for these photos only."""

    mean: float
    error: float
    num: int

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return t_quantile(self.num - 1) * self.error


def difference(more: Mapping[Key, float], less: Mapping[Key, float]) -> Difference | None:
    """Return more − less over the keys of both, None for fewer than two, which have no spread."""
    gaps = [more[key] - less[key] for key in more if key in less]
    if len(gaps) < 2:
        return None
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    return Difference(statistics.mean(gaps), error, len(gaps))


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 0.1 %. freedom: degrees, from 1 on.

    Beyond the table by the expansion around the normal quantile z (Abramowitz and Stegun 26.7.5).
    """
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    z = _NORMAL
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
