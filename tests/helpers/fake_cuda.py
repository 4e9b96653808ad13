"""A graphics card without one: tensors that say `cuda:0`, have shapes and no memory.

torch's FakeTensorMode refuses, as a card would, what mixes devices. A build of torch without CUDA
cannot index such a tensor in Python, so indexing is done by the operators it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from blockskip.lab.measuring.peak_memory import PeakMeter

COPY = torch.ops.aten.copy_.default
CPU_GETITEM = Tensor.__getitem__
CARD = torch.device("cuda:0")


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Everything made inside has no memory; nothing may need a gradient."""
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(Tensor, "__getitem__", _getitem),
        mock.patch.object(Tensor, "__setitem__", _setitem),
        mock.patch.object(Tensor, "contiguous", lambda tensor, **_: tensor),
        mock.patch.object(Tensor, "copy_", lambda tensor, *of: COPY(tensor, *of)),
        mock.patch.object(FakeTensor, "tolist", _fake_numbers),
    ):
        yield


def _getitem(tensor: Tensor, index: object) -> Tensor:
    if tensor.device.type == "cpu":
        return CPU_GETITEM(tensor, index)
    wanted = index if isinstance(index, tuple) else (index,)
    dim = 0
    for one in wanted:
        if one is Ellipsis:
            dim += (
                tensor.dim()
                - dim
                - sum(1 for rest in wanted[wanted.index(Ellipsis) + 1 :] if rest is not None)
            )
        elif one is None:
            tensor, dim = tensor.unsqueeze(dim), dim + 1
        elif isinstance(one, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, dim, one.start, one.stop, one.step or 1)
            dim += 1
        elif isinstance(one, int):
            tensor = tensor.select(dim, one)
        else:
            raise TypeError(f"a pretended card is not indexed by {one!r}")
    return tensor


def _fake_numbers(tensor: Tensor) -> list:
    """In the place of numbers that are not there: of a mask, a long caption and short ones."""
    numbers = np.zeros(tensor.shape)
    numbers[:1] = numbers[..., :1] = 1
    return numbers.tolist()


def to_card(module: torch.nn.Module) -> None:
    """Weights and buffers of a module made outside `fake_cuda`, as if they lay on the card."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                there = torch.empty(parameter.shape, dtype=parameter.dtype, device=CARD)
                part._parameters[name] = torch.nn.Parameter(there, requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CARD)


def _setitem(tensor: Tensor, index: object, value: Tensor) -> None:
    COPY(_getitem(tensor, index), value)


class CudaPeakMeter(PeakMeter):
    """Counts what is on the card, not what waits in RAM."""

    def _track(self, tensor):
        if tensor.is_cuda:
            super()._track(tensor)
