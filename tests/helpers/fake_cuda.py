"""A simulated GPU: tensors on `cuda:0` with shapes and no memory.

torch's FakeTensorMode refuses to mix devices, as a GPU would. A build of torch without CUDA cannot
index such a tensor in Python, so indexing uses the operators directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from blockskip.lab.measuring.peak_memory import PeakMeter

COPY = torch.ops.aten.copy_.default
CARD = torch.device("cuda:0")


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Context manager in which tensors have no memory. Gradients are disabled."""
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Indexing(),
        mock.patch.object(Tensor, "contiguous", lambda tensor, **_: tensor),
        mock.patch.object(Tensor, "copy_", lambda tensor, *of: COPY(tensor, *of)),
        mock.patch.object(FakeTensor, "tolist", _fake_numbers),
    ):
        yield


class _Indexing(TorchFunctionMode):
    """Indexes tensors on the card. Patching `Tensor.__getitem__` would leave its mark: afterwards
    torch takes every tensor for a sequence, and `torch.tensor([a 0-d tensor])` fails."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        done = {Tensor.__getitem__: _getitem, Tensor.__setitem__: _setitem}.get(function)
        if done is not None and args[0].device.type != "cpu":
            return done(*args)
        return function(*args, **(kwargs or {}))


def _getitem(tensor: Tensor, index: object) -> Tensor:
    indices = index if isinstance(index, tuple) else (index,)
    if all(isinstance(entry, Tensor) for entry in indices):
        return torch.ops.aten.index.Tensor(tensor, list(indices))
    dim = 0
    for entry in indices:
        if entry is Ellipsis:
            dim += (
                tensor.dim()
                - dim
                - sum(1 for later in indices[indices.index(Ellipsis) + 1 :] if later is not None)
            )
        elif entry is None:
            tensor, dim = tensor.unsqueeze(dim), dim + 1
        elif isinstance(entry, slice):
            tensor = torch.ops.aten.slice.Tensor(
                tensor, dim, entry.start, entry.stop, entry.step or 1
            )
            dim += 1
        elif isinstance(entry, int):
            tensor = tensor.select(dim, entry)
        else:
            raise TypeError(f"a pretended card is not indexed by {entry!r}")
    return tensor


def _fake_numbers(tensor: Tensor) -> list:
    """Return numbers in place of missing ones; as a mask, one long caption and short ones."""
    numbers = np.zeros(tensor.shape)
    numbers[:1] = numbers[..., :1] = 1
    return numbers.tolist()


def to_card(module: torch.nn.Module) -> None:
    """Replace the weights and buffers of a module made outside `fake_cuda` by fake ones on the
    GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype, device=CARD)
                part._parameters[name] = torch.nn.Parameter(fake, requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CARD)


def _setitem(tensor: Tensor, index: object, value: Tensor) -> None:
    COPY(_getitem(tensor, index), value)


class CudaPeakMeter(PeakMeter):
    """A meter that counts tensors on the GPU, not those in RAM."""

    def _track(self, tensor):
        if tensor.is_cuda:
            super()._track(tensor)
