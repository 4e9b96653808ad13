"""Streams weights from files: while a block runs, those of the next one are loaded.

`offload` attaches to every layer of an empty model (on torch's meta device) the location of its
weights, so wrappers around layers do not matter. A `WeightStore` loads them:

    files → two alternating host buffers → device    one thread reads ahead, a CUDA stream copies
                                                     (other devices: the caller's thread copies)
    files → two alternating host buffers             on the CPU the buffer is the destination

Without gradients, neighbours of one size take turns in two device buffers (`DeviceBuffers`). Under
autograd every block gets separate memory, since the backward pass reads it again. Bytes are counted
where they are read and where they arrive (docs/method.md §1.4: once a window).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from blockskip.core.errors import BadFile
from blockskip.memory.block_buffers import DeviceBuffers, HostBuffer, host_empty
from blockskip.models.sources.tensor_reader import Reader, StoredTensor, TensorIndex

ALIGNED = 256  # bytes: fast vector loads, and results do not depend on a tensor's neighbours


@dataclass(frozen=True, eq=False)
class OffloadedParam:
    """An offloaded parameter. placeholder: the meta parameter (no bytes) in its place."""

    store: WeightStore
    name: str
    stored: StoredTensor
    placeholder: nn.Parameter

    @property
    def num_bytes(self) -> int:
        return self.placeholder.numel() * self.placeholder.element_size()


@dataclass
class TransferStats:
    """Bytes that a store has moved so far, and how often it has read each parameter."""

    read_bytes: int = 0  # from files
    transferred_bytes: int = 0  # over the bus to a GPU, or into RAM on the CPU
    reads: Counter = field(default_factory=Counter)


@dataclass(eq=False)
class Transfer:
    """Weights being loaded. done: resolves to CUDA's event, None on the CPU, and for other devices
    to the weights in RAM by name, for the caller's thread to copy: two threads at once crash MPS
    (pytorch issue 197805).

    cached: the weights stay in RAM and need not be released after their block has run. buffer: the
    device memory of the weights, if their block is passing.
    """

    names: tuple[str, ...]
    tensors: dict[str, Tensor]
    done: Future[torch.cuda.Event] | Future[dict[str, Tensor]] | Future[None]
    passing: bool
    cached: bool = False
    buffer: Tensor | None = None


class WeightStore:
    """The offloaded weights of one model. cache_bytes: how much may stay in RAM once read."""

    def __init__(self, cache_bytes: float = 0) -> None:
        self.stats, self.cache_bytes = TransferStats(), cache_bytes
        self._reader = Reader()
        self._staging, self._turn = [HostBuffer(), HostBuffer()], 0
        self._device_buffers = DeviceBuffers()
        # one entry a weight: the same block can be requested in different groups
        self._cache: dict[str, Tensor] = {}
        self._cached_bytes = 0
        self._transfer: Transfer | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights")
        # created when a device first needs it
        self._copying: torch.cuda.Stream | None = None

    def prefetch(
        self,
        slots: Sequence[OffloadedParam],
        device: torch.device,
        passing: bool,
        keep: bool = True,
    ) -> None:
        """Start loading weights; `take` returns them.

        passing: the block runs once, without gradients, while at most one other block's weights are
        in use. keep: the weights may stay in RAM if there is room.
        """
        names = tuple(slot.name for slot in slots)
        pending = self._transfer
        if pending is not None and (pending.names, pending.passing) == (names, passing):
            return
        self._finish_transfer()  # drops weights that were prefetched but not used
        self._transfer = self._start(names, list(slots), device, passing, keep)

    def take(
        self,
        slots: Sequence[OffloadedParam],
        device: torch.device,
        passing: bool,
        keep: bool = True,
    ) -> Transfer:
        """Return the weights of these slots on `device`. Raises UserError if a file is broken."""
        self.prefetch(slots, device, passing, keep)
        transfer = self._finish_transfer()
        assert transfer is not None, "`prefetch` has just started one"
        in_ram = transfer.done.result()
        if isinstance(in_ram, dict):
            for name, view in transfer.tensors.items():
                view.copy_(in_ram[name])
        if transfer.buffer is not None:
            self._device_buffers.taken(transfer.buffer)
        return transfer

    def release_device_buffers(self) -> None:
        """Keep no device memory beyond the running block; called when none of this store follows."""
        self._device_buffers.clear()

    def release_buffers(self) -> None:
        """Free the buffers on host and device; called at the end of a traversal."""
        self._device_buffers.clear()
        self._finish_transfer()
        self._staging = [HostBuffer(), HostBuffer()]

    def release_cache(self) -> None:
        """Free the buffers and the weights kept in RAM, which may be kept there again."""
        self.release_buffers()
        self.cache_bytes += self._cached_bytes
        self._cached_bytes = 0
        self._cache.clear()

    def set_cache_bytes(self, cache_bytes: float) -> None:
        """Change how much may stay in RAM. If that is less than what does, all of it is freed."""
        if cache_bytes < self._cached_bytes:
            self.release_cache()
        self.cache_bytes = cache_bytes - self._cached_bytes

    def _finish_transfer(self) -> Transfer | None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            event = transfer.done.result()
            if isinstance(event, torch.cuda.Event):
                event.wait()  # blocks later work on this stream, not this thread
        return transfer

    def _start(
        self,
        names: tuple[str, ...],
        slots: list[OffloadedParam],
        device: torch.device,
        passing: bool,
        keep: bool,
    ) -> Transfer:
        offsets, size = _layout(slots)
        fresh = [slot for slot in slots if slot.name not in self._cache]
        _, fresh_bytes = _layout(fresh)
        keep = keep and 0 < fresh_bytes <= self.cache_bytes
        target = None
        if device.type != "cpu" and passing:
            target = self._device_buffers.reserve(size, device)
        elif device.type != "cpu":
            target = torch.empty(size, dtype=torch.uint8, device=device)
        # counted only now, since the allocation above may fail
        self.stats.transferred_bytes += sum(slot.num_bytes for slot in slots)
        if keep:
            self.cache_bytes -= fresh_bytes
            self._cached_bytes += fresh_bytes if target is not None else 0  # else in the modules
        if target is None:
            staged = passing and not keep
            host = self._next_staging().reserve(size, False) if staged else _empty_bytes(size)
            views = _views(host, slots, offsets)
            read = self._thread.submit(self._read, slots, offsets, host)
            return Transfer(names, views, read, passing, cached=keep)
        views = _views(target, slots, offsets)
        if not target.is_cuda:
            in_ram = self._thread.submit(self._gather, fresh, names, keep)
            return Transfer(names, views, in_ram, passing, buffer=target if passing else None)
        ready = torch.cuda.current_stream(device).record_event()
        done = self._thread.submit(self._copy, fresh, views, target, ready, keep)
        return Transfer(names, views, done, passing, buffer=target if passing else None)

    def _next_staging(self) -> HostBuffer:
        self._turn = 1 - self._turn
        return self._staging[self._turn]

    def _read(
        self,
        slots: list[OffloadedParam],
        offsets: list[int],
        host: Tensor,
    ) -> None:
        """Fill `host` from files, in the reading thread."""
        before = self._reader.bytes_read
        for slot, view in zip(slots, _views(host, slots, offsets).values(), strict=True):
            self._reader.read(slot.stored, view)
            self.stats.reads[slot.name] += 1
        self.stats.read_bytes += self._reader.bytes_read - before

    def _gather(
        self,
        fresh: list[OffloadedParam],
        names: Sequence[str],
        keep: bool,
        pinned: bool = False,
        staging: HostBuffer | None = None,
    ) -> dict[str, Tensor]:
        """Read weights into RAM, in the reading thread; return those of `names`, also kept ones.

        fresh: those not in RAM yet. staging: where they go unless they are kept; None: the next.
        """
        offsets, size = _layout(fresh)
        if fresh and not keep:
            host = (staging or self._next_staging()).reserve(size, pinned)
        else:
            host = host_empty((size,), torch.uint8, pinned and size > 0)
        self._read(fresh, offsets, host)
        read = _views(host, fresh, offsets)
        if keep:
            self._cache |= read
        return {name: read[name] if name in read else self._cache[name] for name in names}

    def _copy(
        self,
        fresh: list[OffloadedParam],
        views: dict[str, Tensor],
        target: Tensor,
        ready: torch.cuda.Event,
        keep: bool,
    ) -> torch.cuda.Event:
        """Copy files → pinned buffer → device, in the reading thread and on the copy stream.

        views: the weights as parts of `target`. fresh: those not in RAM yet. ready: `target` may be
        in use by queued work until this event.
        """
        staging = self._next_staging() if fresh and not keep else None
        sources = self._gather(fresh, list(views), keep, True, staging)
        if self._copying is None:
            self._copying = torch.cuda.Stream(target.device)
        with torch.cuda.stream(self._copying):
            self._copying.wait_event(ready)
            for name, view in views.items():
                view.copy_(sources[name], non_blocking=True)
            copied = self._copying.record_event()
        if staging is not None:
            staging.copied = copied
        return copied


def offload(model: nn.Module, index: TensorIndex, cache_bytes: float = 0) -> WeightStore:
    """Attach to every absent parameter of `model` its location; return the store that loads them.

    cache_bytes: RAM for weights that are loaded repeatedly (0: read from the file each time). A
    tied parameter is located through any of its names. Buffers in the files are read at once.
    Raises UserError if the index lacks a parameter.
    """
    vars(model)["_store"] = store = WeightStore(cache_bytes)
    reader, saved = Reader(), model.state_dict()
    for name, buffer in model.named_buffers():
        if name in saved and name in index:
            reader.read(index[name], buffer)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    slots: dict[int, OffloadedParam] = {}
    for leaf in model.modules():
        for key, absent in leaf._parameters.items():
            if absent is None or not absent.is_meta:
                continue
            if id(absent) not in slots:
                indexed = [name for name in names[id(absent)] if name in index]
                if not indexed:
                    raise BadFile(
                        f"The weights of {names[id(absent)][0]} are not in the model's files.",
                        "The model is not complete, or another kind; fetch it again.",
                    )
                slots[id(absent)] = OffloadedParam(store, indexed[0], index[indexed[0]], absent)
            vars(leaf).setdefault("_offloaded", {})[key] = slots[id(absent)]
    return store


def weight_stores(modules: Iterable[nn.Module]) -> list[WeightStore]:
    """Return the stores of the offloaded models among `modules`."""
    return [vars(module)["_store"] for module in modules if "_store" in vars(module)]


# a layer, the parameter's name in it, the offloaded parameter
ParamSite = tuple[nn.Module, str, OffloadedParam]


def offloaded_params(module: nn.Module) -> list[ParamSite]:
    """Return the sites of all parameters in `module` that are not loaded now."""
    return [
        (leaf, key, slot)
        for leaf in module.modules()
        for key, slot in vars(leaf).get("_offloaded", {}).items()
        if leaf._parameters[key] is slot.placeholder
    ]


def by_store(sites: Sequence[ParamSite]) -> dict[WeightStore, list[OffloadedParam]]:
    """Group the slots of `offloaded_params` by store, each once, in order."""
    stores: dict[WeightStore, dict[str, OffloadedParam]] = {}
    for _, _, slot in sites:
        stores.setdefault(slot.store, {})[slot.name] = slot
    return {store: list(slots.values()) for store, slots in stores.items()}


def _empty_bytes(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)


def layout(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Return the offsets in one buffer of tensors of these sizes, and its size; all in bytes."""
    offsets, total = [], 0
    for size in sizes:
        offsets.append(total)
        total += math.ceil(size / ALIGNED) * ALIGNED
    return offsets, total


def _layout(slots: Sequence[OffloadedParam]) -> tuple[list[int], int]:
    return layout(slot.num_bytes for slot in slots)


def _views(
    buffer: Tensor, slots: Sequence[OffloadedParam], offsets: Sequence[int]
) -> dict[str, Tensor]:
    return {
        slot.name: buffer[start : start + slot.num_bytes]
        .view(slot.placeholder.dtype)
        .view(slot.placeholder.shape)
        for slot, start in zip(slots, offsets, strict=True)
    }
