"""The only code that moves weights: which device, and what is there now.

Whether a weight waits on another device, in RAM or in a file (memory/streaming.py) is decided when a
model is opened; what is written here treats them alike:

    on_device        here inside, where they were before afterwards       pin_on_device     here until let go
    streamed_block   as on_device, for one block of many; the next one is fetched meanwhile
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from blockskip.core.errors import BadInput
from blockskip.memory.streaming import ParamSite, by_store, offloaded_params, weight_stores

LOAD_CHUNK_BYTES = 256 << 20  # bytes brought together when weights come to stay


def pick_device(name: str = "auto") -> torch.device:
    """The device a run works on. name: auto | cpu | cuda | mps | xpu. Raises UserError if
    absent."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return found or torch.device("cpu")
    if name == "cpu" or (found is not None and found.type == name):
        return torch.device(name)
    raise BadInput(
        f"This machine has no working device “{name}”.",
        f"Use --device auto; it would take {found.type if found else 'cpu'}.",
    )


def pin_on_device(device: torch.device, *modules: nn.Module, keep: bool = False) -> list[ParamSite]:
    """Bring weights to a device to stay; gives what `release` takes back to where it waited.

    What is trained keeps its identity, so optimisers go on. keep: they will be let go and come
    again, so RAM may keep a copy.
    """
    for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
        for tensor in tensors:
            if _elsewhere(tensor, device):
                tensor.data = tensor.data.to(device)
    held, found, size = [], [], 0
    for entry in [entry for module in modules for entry in offloaded_params(module)]:
        found.append(entry)
        size += entry[2].num_bytes
        if size > LOAD_CHUNK_BYTES:
            held += _load(found, device, passing=False, keep=keep)
            found, size = [], 0
    held += _load(found, device, passing=False, keep=keep)
    for store in by_store(held):
        store.release_buffers()
    return held


@contextmanager
def on_device(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Weights are on `device` inside, and where they were before afterwards."""
    with ExitStack() as stack:
        found = [entry for module in modules for entry in offloaded_params(module)]
        # a parked model's store may be fetching blocks of a wrapper, which are not among `found`
        for store in {*by_store(found), *weight_stores(modules)}:
            stack.callback(store.release_buffers)
        stack.callback(_restore, _borrow(modules, device))
        stack.callback(release, _load(found, device, passing=False))
        yield


@contextmanager
def streamed_block(
    device: torch.device, block: nn.Module, next_block: nn.Module | None = None
) -> Iterator[None]:
    """As `on_device` for one block of a traversal; meanwhile the weights of `next_block` are fetched."""
    once = not torch.is_grad_enabled()  # a backward pass needs them after the block has worked
    with ExitStack() as stack:
        stack.callback(_restore, _borrow([block], device))
        stack.callback(release, _load(offloaded_params(block), device, once))
        if next_block is not None:
            # without room for it now, it comes when this block is gone
            with suppress(torch.OutOfMemoryError):
                for store, slots in by_store(offloaded_params(next_block)).items():
                    store.prefetch(slots, device, once)
        yield


def _load(
    found: Sequence[ParamSite], device: torch.device, passing: bool, keep: bool = True
) -> list[ParamSite]:
    """Put weights in their place; gives those that must leave again (not what RAM may keep)."""
    here: dict[int, nn.Parameter] = {}
    leaving = set()
    for store, slots in by_store(found).items():
        transfer = store.take(slots, device, passing, keep)
        for slot in slots:
            here[id(slot)] = nn.Parameter(transfer.tensors[slot.name], requires_grad=False)
        if not transfer.cached:
            leaving.add(store)
    for leaf, key, slot in found:
        leaf._parameters[key] = here[id(slot)]
    return [entry for entry in found if entry[2].store in leaving]


def release(found: Sequence[ParamSite]) -> None:
    """Weights go back to where they wait."""
    for leaf, key, slot in found:
        leaf._parameters[key] = slot.placeholder


def _borrow(modules: Sequence[nn.Module], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Copy to `device` what is elsewhere, to be read only; gives (tensor, its own memory)."""
    lent: list[tuple[Tensor, Tensor]] = []
    try:
        for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
            for tensor in tensors:
                if _elsewhere(tensor, device):
                    lent.append((tensor, tensor.data))
                    tensor.data = tensor.data.to(device)
    except BaseException:
        _restore(lent)  # what there was room for
        raise
    return lent


def _elsewhere(tensor: Tensor, device: torch.device) -> bool:
    return not tensor.is_meta and tensor.device.type != device.type  # "cuda" is not "cuda:0"


def _restore(lent: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, own in lent:
        tensor.data = own


def free_memory() -> None:
    """Give back what nothing uses any more to the device's other programs."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


@contextmanager
def placeholder_weights(model: nn.Module) -> Iterator[None]:
    """Absent weights look present inside (one number repeated, on the CPU), for libraries that ask
    a layer for its device before they add to it. Nothing may be computed with them."""
    found = offloaded_params(model)
    for leaf, key, slot in found:
        shape, dtype = slot.placeholder.shape, slot.placeholder.dtype
        stand_in = torch.zeros((), dtype=dtype).expand(shape)
        leaf._parameters[key] = nn.Parameter(stand_in, requires_grad=False)
    try:
        yield
    finally:
        release(found)


@contextmanager
def replace_modules(model: nn.Module, new: Mapping[str, nn.Module]) -> Iterator[None]:
    """`model` with the modules of these names replaced inside, and restored afterwards."""
    old = {name: model.get_submodule(name) for name in new}
    for name, module in new.items():
        model.set_submodule(name, module)
    try:
        yield
    finally:
        for name, module in old.items():
            model.set_submodule(name, module)


def move_trainable(device: torch.device, trained: Iterable[nn.Parameter]) -> None:
    """Bring what is trained to the device it is trained on."""
    for parameter in trained:
        parameter.data = parameter.data.to(device)
