"""Memory that is in use, counted by storage, and floating point operations, without either.

`PeakMeter` watches torch's meta tensors, which have a shape, a type and a storage of known size, but
no memory: every tensor an operation makes is known by its storage, counted once however many views
it has, and let go when the last reference dies. A 24 GB model is counted on any PC (ours;
docs/method.md §1.8).

Two operations are told which kernel a card would take, since they keep other tensors elsewhere:
attention (flash) and RMS norm (fused). What is not counted: the CUDA context, workspaces inside kernels, and the allocator's rounding.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

_SDPA = "_scaled_dot_product_flash_attention"
# the CPU's own kernel is the same arithmetic, but torch's table does not know it
FLOPS = flop_registry | {
    getattr(torch.ops.aten, f"{_SDPA}_for_cpu{way}"): flop_registry[
        getattr(torch.ops.aten, f"{_SDPA}{way}")
    ]
    for way in ("", "_backward")
}


class PeakMeter(TorchDispatchMode):
    """Counts bytes of live storages made while it is entered, and of what is put on the card.

    peak_bytes: the most there was at once. flops: of matrix products and attention, a multiply and
    an add counted as two. held_bytes: what there was when `restart` was last called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_bytes = self.peak_bytes = self.held_bytes = self.flops = 0
        self._live: dict[int, int] = {}
        self._swept_at = 0

    def __enter__(self) -> PeakMeter:
        gc.freeze()  # what is old is not searched each time; half of the time would go there
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        gc.unfreeze()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_iter(output):
            if isinstance(tensor, Tensor):
                self._track(tensor)
        if self.now_bytes > self.peak_bytes:
            self._raise_peak()
        count = FLOPS.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=output)
        return output

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made elsewhere: they are brought to the card now."""
        for tensor in tensors:
            self._track(tensor)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def remove(self, tensors: Iterable[Tensor]) -> None:
        """Count these no longer: they leave the card."""
        for tensor in tensors:
            self.now_bytes -= self._live.pop(tensor.untyped_storage()._cdata, 0)

    def restart(self) -> None:
        """Forget the peak, not what is there."""
        gc.collect()
        self.peak_bytes = self._swept_at = self.held_bytes = self.now_bytes
        self.flops = 0

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self.now_bytes += storage.nbytes()
        weakref.finalize(storage, self._untrack, key)

    def _raise_peak(self) -> None:
        """Take a new peak, but never one that garbage made.

        This counter's own Python frames form reference cycles with checkpointed graphs; without
        collecting them checkpointing would seem to save nothing.
        """
        if self.now_bytes > 1.005 * self._swept_at:
            gc.collect()
            self._swept_at = self.now_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def _untrack(self, key: int) -> None:
        self.now_bytes -= self._live.pop(key, 0)


class _FusedRMSNorm(torch.autograd.Function):
    """What CUDA's fused kernel keeps: its input and one number a row, nothing in fp32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.empty_like(ctx.saved_tensors[0]), None


def _rms_norm(x: Tensor, _shape: object, weight: Tensor | None = None, _eps: object = None):
    return _FusedRMSNorm.apply(x, weight)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
    """CUDA's flash attention: keeps q, k, v, its output and one number a query."""
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


class _QuantisedProduct(torch.autograd.Function):
    """x W^T with W unpacked for this one product, in forward and again in backward."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.dequantised(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dequantised(grad.dtype), None


class QuantisedLinear(nn.Linear):
    """A frozen linear that holds the bytes a quantised one does; its numbers mean nothing.

    int8: a byte a weight and a scale a block of 256. nf4: half a byte a weight, a byte a block of
    64 and an fp32 for 256 such blocks (double quantisation, as bitsandbytes does).
    """

    def __init__(self, of: nn.Linear, precision: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = of.in_features, of.out_features
        self.bias = of.bias
        size, self.blocks = of.weight.numel(), 0
        if precision == "nf4":
            parts = {"weight": size // 2, "scales": size // 64}
            self.blocks = size // 64
            self.scales_of_scales = _buffer(size // (64 * 256), torch.float32)
        else:
            parts = {"weight": size, "scales": size // 256 * 4}
        for name, length in parts.items():
            setattr(self, name, _buffer(length, torch.uint8))

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight (out, in) as the product needs it; NF4 unpacks its block scales first."""
        there = self.weight.device
        scales = torch.empty(self.blocks, dtype=torch.float32, device=there)
        weight = torch.empty(self.out_features, self.in_features, dtype=dtype, device=there)
        del scales
        return weight

    def forward(self, x: Tensor) -> Tensor:
        return _QuantisedProduct.apply(x, self)


def _buffer(length: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(max(1, length), dtype=dtype), requires_grad=False)


def quantise(module: nn.Module, precision: str) -> None:
    """Replace every linear inside by one of that precision: full (nothing to do) | int8 | nf4."""
    if precision not in ("int8", "nf4"):
        return
    for name, layer in list(module.named_modules()):
        if type(layer) is nn.Linear:
            module.set_submodule(name, QuantisedLinear(layer, precision))


@contextmanager
def fake_gpu(dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Everything made inside has a shape and a type but no memory; modules are made in `dtype`."""
    with torch.device("meta"), gpu_kernels(dtype):
        yield


@contextmanager
def gpu_kernels(dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Inside, `dtype` is the default and attention and RMS norm keep what a card's kernels keep."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    functional = "torch.nn.functional"
    try:
        with (
            mock.patch(f"{functional}.rms_norm", _rms_norm),
            mock.patch(f"{functional}.scaled_dot_product_attention", _attention),
        ):
            yield
    finally:
        torch.set_default_dtype(before)
