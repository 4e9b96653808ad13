"""Weights that wait outside: each is read when its block is about to work, the next block meanwhile.

`offload` gives a model without weights (on torch's meta device) an index of where they lie; each layer
then knows its own, whatever is wrapped around it. A `WeightStore` brings them:

    files → two host buffers in turn → device     a thread reads ahead, a copy stream carries
    files → two host buffers in turn              on the CPU: the buffer is the destination itself

Under autograd every block gets memory of its own, since the backward pass reads it again. Bytes
are counted where they are read and where they arrive (docs/method.md §1.4: once a window).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from blockskip.core.errors import BadFile
from blockskip.models.sources.tensor_reader import Reader, StoredTensor, TensorIndex

log = logging.getLogger(__name__)
ALIGNED = 256  # bytes; vector loads and copies like it, and digits do not depend on the neighbours


@dataclass(frozen=True, eq=False)
class OffloadedParam:
    """One parameter that waits: what stands in its place meanwhile is `placeholder` (meta, no bytes)."""

    store: WeightStore
    name: str
    stored: StoredTensor
    placeholder: nn.Parameter

    @property
    def num_bytes(self) -> int:
        return self.placeholder.numel() * self.placeholder.element_size()


@dataclass
class TransferStats:
    """What a store has moved so far, in bytes, and how often each parameter was read."""

    read_bytes: int = 0  # from files
    transferred_bytes: int = 0  # to where they work: over the bus, or into RAM on the CPU
    reads: Counter = field(default_factory=Counter)


@dataclass(eq=False)
class Transfer:
    """Weights on their way. done gives an event of the device, or None on the CPU.
    cached: they are in RAM, their home, and need not leave when their block has worked."""

    names: tuple[str, ...]
    tensors: dict[str, Tensor]
    done: Future[torch.cuda.Event | None]
    cached: bool = False


class _Staging:
    """One of the two host buffers; grows to the largest block, pinned when a device copies from it."""

    def __init__(self) -> None:
        self.buffer = torch.empty(0, dtype=torch.uint8)
        # after which the device no longer reads it
        self.copied: torch.cuda.Event | None = None

    def reserve(self, num_bytes: int, pinned: bool) -> Tensor:
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None
        if len(self.buffer) < num_bytes:
            self.buffer = torch.empty(0, dtype=torch.uint8)
            self.buffer = host_empty((num_bytes,), torch.uint8, pinned)
        return self.buffer[:num_bytes]


class WeightStore:
    """The waiting weights of one model. cache_bytes: how much may stay in RAM once it was read."""

    def __init__(self, cache_bytes: float = 0) -> None:
        self.stats, self.cache_bytes = TransferStats(), cache_bytes
        self._reader = Reader()
        self._staging, self._turn = [_Staging(), _Staging()], 0
        # weight by weight: blocks come in more than one company
        self._cache: dict[str, Tensor] = {}
        self._transfer: Transfer | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights")
        # made when a device first needs it
        self._copying: torch.cuda.Stream | None = None

    def prefetch(
        self,
        slots: Sequence[OffloadedParam],
        device: torch.device,
        passing: bool,
        keep: bool = True,
    ) -> None:
        """Start bringing weights; `take` hands them over. passing: their block works once, without
        gradients, and no more than one other's weights are in use when it does. keep: they may stay
        in RAM if there is room."""
        names = tuple(slot.name for slot in slots)
        if self._transfer is not None and self._transfer.names == names:
            return
        self._finish_transfer()  # what was fetched in vain is dropped
        self._transfer = self._start(names, list(slots), device, passing, keep)

    def take(
        self,
        slots: Sequence[OffloadedParam],
        device: torch.device,
        passing: bool,
        keep: bool = True,
    ) -> Transfer:
        """The weights of these slots, on `device`. Raises UserError when a file is broken."""
        self.prefetch(slots, device, passing, keep)
        transfer = self._finish_transfer()
        assert transfer is not None, "`prefetch` has just started one"
        return transfer

    def release_buffers(self) -> None:
        """Give the host buffers back; called when a traversal is over."""
        self._finish_transfer()
        self._staging = [_Staging(), _Staging()]

    def release_cache(self) -> None:
        """Give back also what was kept in RAM."""
        self.release_buffers()
        self._cache.clear()

    def _finish_transfer(self) -> Transfer | None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            event = transfer.done.result()
            if event is not None:
                event.wait()  # the work that follows on this stream, not this thread
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
        _, more = _layout(fresh)
        keep = keep and 0 < more <= self.cache_bytes
        there = None
        if device.type != "cpu":
            there = torch.empty(size, dtype=torch.uint8, device=device)
        # from here on nothing fails
        self.stats.transferred_bytes += sum(slot.num_bytes for slot in slots)
        if keep:
            self.cache_bytes -= more
        if there is None:
            staged = passing and not keep
            host = self._next_staging().reserve(size, False) if staged else _empty_bytes(size)
            views = _views(host, slots, offsets)
            return Transfer(
                names, views, self._thread.submit(self._read, slots, offsets, host), cached=keep
            )
        ready = torch.cuda.current_stream(device).record_event() if there.is_cuda else None
        views = _views(there, slots, offsets)
        landed = self._thread.submit(self._carry, fresh, views, there, ready, keep)
        return Transfer(names, views, landed)

    def _next_staging(self) -> _Staging:
        self._turn = 1 - self._turn
        return self._staging[self._turn]

    def _read(
        self,
        slots: list[OffloadedParam],
        offsets: list[int],
        host: Tensor,
    ) -> None:
        """In the reading thread: fill `host` from files."""
        before = self._reader.bytes_read
        for slot, view in zip(slots, _views(host, slots, offsets).values(), strict=True):
            self._reader.read(slot.stored, view)
            self.stats.reads[slot.name] += 1
        self.stats.read_bytes += self._reader.bytes_read - before

    def _carry(
        self,
        fresh: list[OffloadedParam],
        views: dict[str, Tensor],
        there: Tensor,
        ready: torch.cuda.Event | None,
        keep: bool,
    ) -> torch.cuda.Event | None:
        """In the reading thread: files → pinned buffer → device, on the copy stream.

        fresh: those of `views`, parts of `there`, that are not in RAM yet. ready: the event before
        which `there` may still be in use by work already queued; None: no CUDA.
        """
        offsets, size = _layout(fresh)
        staging = self._next_staging() if fresh and not keep else None
        if staging is not None:
            host = staging.reserve(size, there.is_cuda)
        else:
            host = host_empty((size,), torch.uint8, there.is_cuda and size > 0)
        self._read(fresh, offsets, host)
        read = _views(host, fresh, offsets)
        if keep:
            self._cache |= read
        waiting = {name: read[name] if name in read else self._cache[name] for name in views}
        if ready is None:  # untried devices: correct first
            for name, view in views.items():
                view.copy_(waiting[name])
            return None
        if self._copying is None:
            self._copying = torch.cuda.Stream(there.device)
        with torch.cuda.stream(self._copying):
            self._copying.wait_event(ready)
            for name, view in views.items():
                view.copy_(waiting[name], non_blocking=True)
            copied = self._copying.record_event()
        if staging is not None:
            staging.copied = copied
        return copied


def offload(model: nn.Module, index: TensorIndex, cache_bytes: float = 0) -> WeightStore:
    """Let every absent parameter of `model` know where it lies; gives the store that brings them.

    cache_bytes: RAM for weights that pass again and again (0: each time from the file). Parameters
    that share memory with an indexed one are found through it. Buffers that the files hold are read
    at once. Raises UserError when the index lacks a parameter.
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
                known = [name for name in names[id(absent)] if name in index]
                if not known:
                    raise BadFile(
                        f"The weights of {names[id(absent)][0]} are not in the model's files.",
                        "The model is not complete, or another kind; fetch it again.",
                    )
                slots[id(absent)] = OffloadedParam(store, known[0], index[known[0]], absent)
            vars(leaf).setdefault("_offloaded", {})[key] = slots[id(absent)]
    return store


def weight_stores(modules: Iterable[nn.Module]) -> list[WeightStore]:
    """The stores of those of the modules that were parked."""
    return [vars(module)["_store"] for module in modules if "_store" in vars(module)]


# a layer, the parameter's name in it, where it waits
ParamSite = tuple[nn.Module, str, OffloadedParam]


def offloaded_params(module: nn.Module) -> list[ParamSite]:
    """Everything in `module` that is not here now."""
    return [
        (leaf, key, slot)
        for leaf in module.modules()
        for key, slot in vars(leaf).get("_offloaded", {}).items()
        if leaf._parameters[key] is slot.placeholder
    ]


def by_store(found: Sequence[ParamSite]) -> dict[WeightStore, list[OffloadedParam]]:
    """Slots of `offloaded_params` by store, each once, in order."""
    stores: dict[WeightStore, dict[str, OffloadedParam]] = {}
    for _, _, slot in found:
        stores.setdefault(slot.store, {})[slot.name] = slot
    return {store: list(slots.values()) for store, slots in stores.items()}


def host_empty(shape: Sequence[int], dtype: torch.dtype, pinned: bool) -> Tensor:
    """Memory of this PC, pinned if wanted and if the system has so much of that kind: a card copies
    from other memory as rightly, only slower."""
    if pinned:
        try:
            return torch.empty(*shape, dtype=dtype, pin_memory=True)
        except RuntimeError:
            log.warning("no pinned memory of shape %s; pageable instead", tuple(shape))
    return torch.empty(*shape, dtype=dtype)


def _empty_bytes(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8)


def _layout(slots: Sequence[OffloadedParam]) -> tuple[list[int], int]:
    """Where each slot begins in one buffer, and the buffer's size in bytes."""
    offsets, size = [], 0
    for slot in slots:
        offsets.append(size)
        size += math.ceil(slot.num_bytes / ALIGNED) * ALIGNED
    return offsets, size


def _views(
    buffer: Tensor, slots: Sequence[OffloadedParam], offsets: Sequence[int]
) -> dict[str, Tensor]:
    return {
        slot.name: buffer[start : start + slot.num_bytes]
        .view(slot.placeholder.dtype)
        .view(slot.placeholder.shape)
        for slot, start in zip(slots, offsets, strict=True)
    }
