"""Count memory in use by storage, and FLOPs, without allocating or computing.

`PeakMeter` tracks torch's meta tensors, which have a shape, a dtype and a storage of known size but
no memory. Each storage is counted once, whatever its number of views, until its last reference
dies. So a 24 GB model can be measured on any PC (ours; docs/method.md §1.8).

Attention (flash) and RMS norm (fused) are replaced by versions that save the same tensors as the
GPU's kernels. The CUDA context, workspaces inside kernels and the allocator's rounding are not
counted.
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
# torch's table lacks the CPU kernel, which has the same arithmetic
FLOPS = flop_registry | {torch.ops.aten._int_mm: flop_registry[torch.ops.aten.mm]}
FLOPS |= {
    getattr(torch.ops.aten, f"{_SDPA}_for_cpu{way}"): flop_registry[
        getattr(torch.ops.aten, f"{_SDPA}{way}")
    ]
    for way in ("", "_backward")
}


class PeakMeter(TorchDispatchMode):
    """Counts the bytes of live storages made while entered, or added.

    peak_bytes: the maximum at once. flops: of matrix products and attention, with a multiply-add as
    two; int8_flops: those of them that multiply 8-bit integers. held_bytes: the bytes at the last `restart`. events: what was allocated and freed, in
    order: (number of the allocation, its bytes), and (number, 0) when it is freed
    (lab/full_size/caching_allocator.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_bytes = self.peak_bytes = self.held_bytes = self.flops = self.int8_flops = 0
        self.events: list[tuple[int, int]] = []
        self._live: dict[int, int] = {}  # a storage → its allocation, 0: a part of another
        self._sizes: dict[int, int] = {}  # of live allocations
        self._count = self._swept_at = 0

    def __enter__(self) -> PeakMeter:
        gc.freeze()  # exempts old objects from collection, which would take half of the time
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
            flops = count(*args, **(kwargs or {}), out_val=output)
            self.flops += flops
            self.int8_flops += flops * (func._overloadpacket is torch.ops.aten._int_mm)
        return output

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors made elsewhere, as loaded to the GPU now."""
        for tensor in tensors:
            self._track(tensor)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def remove(self, tensors: Iterable[Tensor]) -> None:
        """Stop counting these tensors, as removed from the GPU."""
        for tensor in tensors:
            self._untrack(tensor.untyped_storage()._cdata)

    def allocate(self, num_bytes: int) -> int:
        """Count an allocation that is no tensor; return its number, for `free`."""
        self._count += 1
        self._sizes[self._count] = num_bytes
        self.now_bytes += num_bytes
        if num_bytes:
            self.events.append((self._count, num_bytes))
        return self._count

    def free(self, number: int) -> None:
        """Stop counting an allocation."""
        num_bytes = self._sizes.pop(number)
        self.now_bytes -= num_bytes
        if num_bytes:
            self.events.append((number, 0))

    def add_parts(self, tensors: Iterable[Tensor]) -> None:
        """Take tensors made elsewhere for parts of an allocation: they count for nothing."""
        for tensor in tensors:
            self._live.setdefault(tensor.untyped_storage()._cdata, 0)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def restart(self) -> None:
        """Reset the peak to the bytes in use, the events to their allocations, the FLOPs to 0."""
        gc.collect()
        self.events = [(number, size) for number, size in self._sizes.items() if size]
        self.peak_bytes = self._swept_at = self.held_bytes = self.now_bytes
        self.flops = self.int8_flops = 0

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = self.allocate(storage.nbytes())
        weakref.finalize(storage, self._untrack, key)

    def _raise_peak(self) -> None:
        """Record a new peak after collecting garbage.

        This counter's Python frames form reference cycles with checkpointed graphs. Uncollected,
        they would hide the savings of checkpointing.
        """
        if self.now_bytes > 1.005 * self._swept_at:
            gc.collect()
            self._swept_at = self.now_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def _untrack(self, key: int) -> None:
        if number := self._live.pop(key, 0):
            self.free(number)


class _FusedRMSNorm(torch.autograd.Function):
    """RMS norm that saves what CUDA's fused kernel does: its input and one number per row."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.empty_like(ctx.saved_tensors[0]), None


def _rms_norm(x: Tensor, _shape: object, weight: Tensor | None = None, eps: object = None):
    return _FusedRMSNorm.apply(x, weight)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
    """Run flash attention, which saves q, k, v, its output and one number per query."""
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


_where = torch.where


def _where_known(condition: Tensor, *values: Tensor) -> Tensor:
    """Run torch.where with a mask whose values are known, so that it is no meta tensor."""
    known = not condition.is_meta and any(getattr(value, "is_meta", False) for value in values)
    return _where(condition.to("meta") if known else condition, *values)


class _QuantisedProduct(torch.autograd.Function):
    """x Wᵀ with W dequantised for this product, in forward and again in backward."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.dequantised(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dequantised(grad.dtype), None


class QuantisedLinear(nn.Linear):
    """A frozen linear with the bytes of a quantised one and meaningless values.

    int8: one byte per weight and a scale per block of 256. nf4: half a byte per weight, a byte per
    block of 64 and an fp32 per 256 such blocks (double quantisation, as in bitsandbytes).
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
        """Return the dequantised weight (out, in). NF4 dequantises its block scales first."""
        device = self.weight.device
        scales = torch.empty(self.blocks, dtype=torch.float32, device=device)
        weight = torch.empty(self.out_features, self.in_features, dtype=dtype, device=device)
        del scales
        return weight

    def forward(self, x: Tensor) -> Tensor:
        return _QuantisedProduct.apply(x, self)


def _buffer(length: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(max(1, length), dtype=dtype), requires_grad=False)


def quantise(module: nn.Module, precision: str) -> None:
    """Replace every linear inside by one of that precision: full (no change) | int8 | nf4."""
    if precision not in ("int8", "nf4"):
        return
    for name, layer in list(module.named_modules()):
        if type(layer) is nn.Linear:
            module.set_submodule(name, QuantisedLinear(layer, precision))


@contextmanager
def fake_gpu(dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Context manager in which tensors are made on the meta device, and modules in `dtype`."""
    with torch.device("meta"), gpu_kernels(dtype):
        yield


@contextmanager
def gpu_kernels(dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Context manager in which `dtype` is the default, and attention and RMS norm save what the
    GPU's kernels do."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    functional = "torch.nn.functional"
    try:
        with (
            mock.patch("torch.where", _where_known),
            mock.patch(f"{functional}.rms_norm", _rms_norm),
            mock.patch(f"{functional}.scaled_dot_product_attention", _attention),
        ):
            yield
    finally:
        torch.set_default_dtype(before)
