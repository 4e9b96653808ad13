"""Moves weights between devices; no other module does.

Opening a model decides whether a weight waits on another device, in RAM or in a file
(memory/streaming.py). The functions below treat all three alike:

    on_device        on the device inside the context, moved back afterwards
    pin_on_device    on the device until `release`
    fill_ram         kept in RAM, as far as it has room
    streamed_block   as on_device, for one block of many, while the next one is fetched
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from blockskip.core.errors import BadInput
from blockskip.memory.streaming import ParamSite, by_store, offloaded_params, weight_stores

LOAD_CHUNK_BYTES = 256 << 20  # bytes that `pin_on_device` loads at a time


def pick_device(name: str = "auto") -> torch.device:
    """Return a run's device. name: auto | cpu | cuda | mps | xpu. Raises UserError if absent."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    if name == "cpu" or (accelerator is not None and accelerator.type == name):
        return torch.device(name)
    raise BadInput(
        f"This machine has no working device “{name}”.",
        f"Use --device auto; it would take {accelerator.type if accelerator else 'cpu'}.",
    )


def pin_on_device(device: torch.device, *modules: nn.Module, keep: bool = False) -> list[ParamSite]:
    """Move weights to a device until `release`; return the sites to pass to it.

    Trained parameters keep their identity, so an optimiser remains valid. keep: the weights will be
    released and loaded again, so RAM may keep a copy.
    """
    for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
        for tensor in tensors:
            if _elsewhere(tensor, device):
                tensor.data = tensor.data.to(device)
    loaded, chunk, size = [], [], 0
    for site in [site for module in modules for site in offloaded_params(module)]:
        chunk.append(site)
        size += site[2].num_bytes
        if size > LOAD_CHUNK_BYTES:
            loaded += _load(chunk, device, passing=False, keep=keep)
            chunk, size = [], 0
    loaded += _load(chunk, device, passing=False, keep=keep)
    for store in by_store(loaded):
        store.release_buffers()
    return loaded


def fill_ram(device: torch.device, blocks: Iterable[nn.Module]) -> None:
    """Load blocks once, in this order, as long as RAM has room to keep them."""
    for block in blocks:
        slots = by_store(offloaded_params(block))
        if any(store.cache_bytes < sum(s.num_bytes for s in each) for store, each in slots.items()):
            return
        with on_device(device, block):
            pass


@contextmanager
def on_device(device: torch.device, *modules: nn.Module, keep: bool = True) -> Iterator[None]:
    """Context manager that has weights on `device` inside and moves them back afterwards. keep:
    they are loaded again later, so RAM may keep a copy."""
    with ExitStack() as stack:
        sites = [site for module in modules for site in offloaded_params(module)]
        # an offloaded model's store may be fetching blocks inside wrappers, which `sites` lacks
        for store in {*by_store(sites), *weight_stores(modules)}:
            stack.callback(store.release_buffers)
        stack.callback(_restore, _borrow(modules, device))
        stack.callback(release, _load(sites, device, passing=False, keep=keep))
        yield


@contextmanager
def streamed_block(
    device: torch.device, block: nn.Module, next_block: nn.Module | None = None
) -> Iterator[None]:
    """Context manager like `on_device` for one block, while `next_block` is fetched."""
    passing = not torch.is_grad_enabled()  # a backward pass still needs them after the forward
    with ExitStack() as stack:
        stack.callback(_restore, _borrow([block], device))
        sites = offloaded_params(block)
        stack.callback(release, _load(sites, device, passing))
        following = {} if next_block is None else by_store(offloaded_params(next_block))
        for store in by_store(sites).keys() - following.keys():
            store.release_device_buffers()
        # without room for it now, it is loaded when this block has left
        with suppress(torch.OutOfMemoryError):
            for store, slots in following.items():
                store.prefetch(slots, device, passing)
        yield


def _load(
    sites: Sequence[ParamSite], device: torch.device, passing: bool, keep: bool = True
) -> list[ParamSite]:
    """Load weights into their modules; return the sites to release later (not those RAM keeps)."""
    parameters: dict[int, nn.Parameter] = {}
    leaving = set()
    for store, slots in by_store(sites).items():
        transfer = store.take(slots, device, passing, keep)
        for slot in slots:
            parameters[id(slot)] = nn.Parameter(transfer.tensors[slot.name], requires_grad=False)
        if not transfer.cached:
            leaving.add(store)
    for leaf, key, slot in sites:
        leaf._parameters[key] = parameters[id(slot)]
    return [site for site in sites if site[2].store in leaving]


def release(sites: Sequence[ParamSite]) -> None:
    """Put the placeholders back, which frees the weights."""
    for leaf, key, slot in sites:
        leaf._parameters[key] = slot.placeholder


def _borrow(modules: Sequence[nn.Module], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Copy tensors from elsewhere to `device`, read-only; return (tensor, original memory)."""
    lent: list[tuple[Tensor, Tensor]] = []
    try:
        for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
            for tensor in tensors:
                if _elsewhere(tensor, device):
                    lent.append((tensor, tensor.data))
                    tensor.data = tensor.data.to(device)
    except BaseException:
        _restore(lent)  # those already copied
        raise
    return lent


def _elsewhere(tensor: Tensor, device: torch.device) -> bool:
    return not tensor.is_meta and tensor.device.type != device.type  # "cuda" is not "cuda:0"


def _restore(lent: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, original in lent:
        tensor.data = original


def free_memory() -> None:
    """Return unused cached memory to the device's other programs."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


@contextmanager
def placeholder_weights(model: nn.Module) -> Iterator[None]:
    """Context manager that replaces absent weights by zeros on the CPU (one number, expanded).

    For libraries that read a layer's device before they add to it. Nothing may be computed with
    the zeros.
    """
    sites = offloaded_params(model)
    for leaf, key, slot in sites:
        shape, dtype = slot.placeholder.shape, slot.placeholder.dtype
        zeros = torch.zeros((), dtype=dtype).expand(shape)
        leaf._parameters[key] = nn.Parameter(zeros, requires_grad=False)
    try:
        yield
    finally:
        release(sites)


@contextmanager
def replace_modules(model: nn.Module, new: Mapping[str, nn.Module]) -> Iterator[None]:
    """Context manager that replaces the named modules of `model` and restores them afterwards."""
    old = {name: model.get_submodule(name) for name in new}
    for name, module in new.items():
        model.set_submodule(name, module)
    try:
        yield
    finally:
        for name, module in old.items():
            model.set_submodule(name, module)


def move_trainable(device: torch.device, trained: Iterable[nn.Parameter]) -> None:
    """Move trained parameters to the device of training, keeping their identity."""
    for parameter in trained:
        parameter.data = parameter.data.to(device)
