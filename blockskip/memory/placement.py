"""The only code that moves weights: which device, what is there now, layer-major streaming.

`Layerwise` is METHOD.md §1.4b: the library's forward runs once with a whole window as its batch,
and each block, wrapped by it, is brought once and loops over micro-batches of draws. Whether a
weight waits on another device, in RAM or in a file (memory/stream.py) is decided when a model is
opened; what is written here treats them alike:

    resident   here inside, where they were before afterwards       hold     here to stay
    passing    as resident, for one block of many; the next one is fetched meanwhile
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blockskip.events import UserError
from blockskip.memory.stream import Missing, distinct, missing

HELD_AT_ONCE = 256 << 20  # bytes brought together when weights come to stay


def pick_device(name: str = "auto") -> torch.device:
    """The device a run works on. name: auto | cpu | cuda | mps | xpu. Raises UserError if
    absent."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return found or torch.device("cpu")
    if name == "cpu" or (found is not None and found.type == name):
        return torch.device(name)
    raise UserError(
        f"This machine has no working device “{name}”.",
        f"Use --device auto; it would take {found.type if found else 'cpu'}.",
    )


def empty(build: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """A frozen model without weights: its parameters have shapes and `dtype`, and no bytes."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = build()
    if hasattr(model, "tie_weights"):  # making it empty parted what is one tensor
        model.tie_weights()
    nn.Module.to(model, dtype)  # the libraries' own would warn about weights it does not have
    return model.requires_grad_(False).eval()


def hold(device: torch.device, *modules: nn.Module) -> None:
    """Bring weights to a device to stay. What is trained keeps its identity, so optimisers go on."""
    for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
        for tensor in tensors:
            if not tensor.is_meta and tensor.device != device:
                tensor.data = tensor.data.to(device)
    found, size = [], 0
    for entry in [entry for module in modules for entry in missing(module)]:
        found.append(entry)
        size += entry[2].num_bytes
        if size > HELD_AT_ONCE:
            _bring(found, device, passing=False, keep=False)
            found, size = [], 0
    _bring(found, device, passing=False, keep=False)


@contextmanager
def resident(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Weights are on `device` inside, and where they were before afterwards."""
    with ExitStack() as stack:
        found = [entry for module in modules for entry in missing(module)]
        for store in distinct(found):
            stack.callback(store.rest)
        stack.callback(_return, _lend(modules, device))
        stack.callback(_leave, _bring(found, device, passing=False))
        yield


@contextmanager
def passing(
    device: torch.device, block: nn.Module, ahead: nn.Module | None = None
) -> Iterator[None]:
    """As `resident` for one block of a traversal; meanwhile the weights of `ahead` are fetched."""
    once = not torch.is_grad_enabled()  # a backward pass needs them after the block has worked
    with ExitStack() as stack:
        stack.callback(_return, _lend([block], device))
        stack.callback(_leave, _bring(missing(block), device, once))
        if ahead is not None:
            for store, slots in distinct(missing(ahead)).items():
                store.fetch(slots, device, once)
        yield


def _bring(
    found: Sequence[Missing], device: torch.device, passing: bool, keep: bool = True
) -> list[Missing]:
    """Put weights in their place; gives those that must leave again (not what RAM may keep)."""
    here: dict[int, nn.Parameter] = {}
    leaving = set()
    for store, slots in distinct(found).items():
        flight = store.take(slots, device, passing, keep)
        for slot in slots:
            here[id(slot)] = nn.Parameter(flight.tensors[slot.name], requires_grad=False)
        if not flight.stay:
            leaving.add(store)
    for leaf, key, slot in found:
        leaf._parameters[key] = here[id(slot)]
    return [entry for entry in found if entry[2].store in leaving]


def _leave(found: Sequence[Missing]) -> None:
    for leaf, key, slot in found:
        leaf._parameters[key] = slot.absent


def _lend(modules: Sequence[nn.Module], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Copy to `device` what is elsewhere, to be read only; gives (tensor, its own memory)."""
    lent = []
    for tensors in (m for module in modules for m in (module.parameters(), module.buffers())):
        for tensor in tensors:
            if not tensor.is_meta and tensor.device != device:
                lent.append((tensor, tensor.data))
                tensor.data = tensor.data.to(device)
    return lent


def _return(lent: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, own in lent:
        tensor.data = own


def free() -> None:
    """Give back what nothing uses any more to the device's other programs."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """Absent weights look present inside (one number repeated, on the CPU), for libraries that ask
    a layer for its device before they add to it. Nothing may be computed with them."""
    found = missing(model)
    for leaf, key, slot in found:
        shape, dtype = slot.absent.shape, slot.absent.dtype
        stand_in = torch.zeros((), dtype=dtype).expand(shape)
        leaf._parameters[key] = nn.Parameter(stand_in, requires_grad=False)
    try:
        yield
    finally:
        _leave(found)


@contextmanager
def replaced(model: nn.Module, new: dict[str, nn.Module]) -> Iterator[None]:
    """`model` with the modules of these names replaced inside, and restored afterwards."""
    old = {name: model.get_submodule(name) for name in new}
    for name, module in new.items():
        model.set_submodule(name, module)
    try:
        yield
    finally:
        for name, module in old.items():
            model.set_submodule(name, module)


class Layerwise(nn.Module):
    """A block that is brought to `device` once and takes its batch a few draws at a time.

    batched: names of keyword inputs with one row a draw (…, rows first); others are passed whole.
    ahead: the block that works next. also: what else uses the block while it is here; it is given a
    function from a block's inputs to its outputs. A block in a wrapper of this module is not among the wrapper's
    parts: `resident` and `hold` of the model around it leave its weights where they are.
    """

    def __init__(
        self,
        block: nn.Module,
        micro_batch: int,
        batched: Sequence[str],
        device: torch.device,
        ahead: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._block, self._ahead = (block,), (ahead,)  # in tuples: no parts of this one
        self.micro_batch, self.batched, self.device = micro_batch, tuple(batched), device
        self.also: Callable[[Callable[[dict], tuple[Tensor, ...]]], None] | None = None

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        (block,) = self._block
        with passing(self.device, block, *self._ahead):
            outputs = self._through(inputs)
            if self.also is not None:
                self.also(self._through)
        return outputs

    def _through(self, inputs: dict) -> tuple[Tensor, ...]:
        (block,), rows, parts = self._block, inputs[self.batched[0]].shape[0], []
        for start in range(0, rows, self.micro_batch):
            some = slice(start, start + self.micro_batch)
            parts.append(
                block(
                    **{
                        name: value[some] if name in self.batched else value
                        for name, value in inputs.items()
                    }
                )
            )
        return tuple(torch.cat(streams) for streams in zip(*parts, strict=True))


class RowByRow(nn.Module):
    """A block of a text encoder, brought once; every caption goes through it alone, so that its
    digits are those of the caption encoded by itself.

    Every tensor given or returned whose first size is the number of captions is taken apart; what
    the block gives may be a tensor or a tuple with tensors in it.
    """

    def __init__(
        self, block: nn.Module, device: torch.device, ahead: nn.Module | None = None
    ) -> None:
        super().__init__()
        self._block, self.device, self._ahead = (block,), device, (ahead,)

    def forward(self, hidden: Tensor, *more: object, **named: object) -> object:
        (block,), rows = self._block, hidden.shape[0]

        def row(value: object, i: int) -> object:
            whole = not isinstance(value, Tensor) or not value.dim() or value.shape[0] != rows
            return value if whole else value[i : i + 1]

        with passing(self.device, block, *self._ahead):
            parts = [
                block(
                    hidden[i : i + 1],
                    *(row(value, i) for value in more),
                    **{name: row(value, i) for name, value in named.items()},
                )
                for i in range(rows)
            ]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return tuple(
            torch.cat(values) if isinstance(values[0], Tensor) else values[0]
            for values in zip(*parts, strict=True)
        )


class Streamed(nn.Module):
    """A block of the middle that does not stay: brought for its forward and again for its backward,
    where its activations are computed anew. before, after: its neighbours, fetched meanwhile."""

    def __init__(
        self,
        block: nn.Module,
        device: torch.device,
        before: nn.Module | None,
        after: nn.Module | None,
    ) -> None:
        super().__init__()
        self._block, self.device = (block,), device
        self._before, self._after = (before,), (after,)

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        (block,) = self._block
        return checkpoint(
            block,
            use_reentrant=False,
            context_fn=lambda: (
                passing(self.device, block, *self._after),
                passing(self.device, block, *self._before),
            ),
            **inputs,
        )


def row_by_row(encoder: nn.Module, device: torch.device) -> dict[str, nn.Module]:
    """The repeated blocks of a text encoder (its outermost module lists) by name, each wrapped."""
    lists = [n for n, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    blocks = [
        (f"{name}.{i}", block)
        for name in outer
        for i, block in enumerate(encoder.get_submodule(name))
    ]
    following = [block for _, block in blocks[1:]] + [None]
    return {
        name: RowByRow(block, device, ahead)
        for (name, block), ahead in zip(blocks, following, strict=True)
    }


def settle(device: torch.device, trained: Sequence[nn.Parameter]) -> None:
    """Bring what is trained to the device it is trained on."""
    for parameter in trained:
        parameter.data = parameter.data.to(device)
