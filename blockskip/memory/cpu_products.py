"""Compute float32 products on the processor with oneDNN, which torch brings.

torch's own choice is MKL. On AMD processors it leaves AVX-512 unused, and takes twice as long for the
demo model's products. Results are equal but for rounding.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

_libraries: list[torch.library.Library] = []  # kernels are there as long as these


@cache
def use_onednn() -> None:
    """Let this process compute products of float32 matrices with oneDNN, where AVX-512 is."""
    if (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")  # private: torch may rename it
    ):
        return
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced
        library.impl("mm", mm, "CPU")
        library.impl("addmm", addmm, "CPU")
    _libraries.append(library)


def mm(x: Tensor, y: Tensor) -> Tensor:
    """Compute x y, as torch.mm."""
    if _suits(x, y):
        return torch.ops.mkldnn._linear_pointwise(x, y.t(), None, "none", [], "")
    return torch.mm(x, y, out=x.new_empty(x.shape[0], y.shape[1]))


def addmm(added: Tensor, x: Tensor, y: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """Compute beta · added + alpha · x y, as torch.addmm."""
    if beta == alpha == 1 and _suits(x, y) and added.dtype == torch.float32:
        if added.shape == y.shape[1:]:
            return torch.ops.mkldnn._linear_pointwise(x, y.t(), added, "none", [], "")
        if added.shape == (len(x), y.shape[1]):
            return torch.ops.mkldnn._linear_pointwise.binary(x, added, y.t(), None, "add")
    out = x.new_empty(x.shape[0], y.shape[1])
    return torch.addmm(added, x, y, beta=beta, alpha=alpha, out=out)


def _suits(x: Tensor, y: Tensor) -> bool:
    return (
        x.dtype == y.dtype == torch.float32
        and x.shape[1] == y.shape[0]
        and x.numel() > 0
        and y.numel() > 0
    )
