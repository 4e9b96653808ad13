"""The only code that moves weights: which device, what is there now, layer-major streaming.

`Layerwise` is METHOD.md §1.4b: the library's forward runs once with a whole window as its batch,
and each block, wrapped by it, is brought once and loops over micro-batches of draws.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from blockskip.events import UserError


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


def home(module: nn.Module) -> torch.device:
    """Where a module's weights are now (the CPU for a module without weights)."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def move(modules: Sequence[nn.Module], device: torch.device) -> None:
    """Bring weights to a device to stay. Parameters keep their identity, so optimisers go on."""
    for module in modules:
        module.to(device)


@contextmanager
def resident(device: torch.device, *modules: nn.Module) -> Iterator[None]:
    """Weights are on `device` inside, and where they were before afterwards."""
    homes = [home(module) for module in modules]
    move(modules, device)
    try:
        yield
    finally:
        for module, place in zip(modules, homes, strict=True):
            module.to(place)


def free() -> None:
    """Give back what nothing uses any more to the device's other programs."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


class Layerwise(nn.Module):
    """A block that is brought to `device` once and takes its batch a few draws at a time.

    batched: names of keyword inputs with one row a draw (…, rows first); others are passed whole.
    """

    def __init__(
        self, block: nn.Module, micro_batch: int, batched: Sequence[str], device: torch.device
    ) -> None:
        super().__init__()
        self.block, self.micro_batch = block, micro_batch
        self.batched, self.device = tuple(batched), device

    def forward(self, **inputs: object) -> tuple[Tensor, ...]:
        rows = inputs[self.batched[0]].shape[0]
        parts = []
        with resident(self.device, self.block):
            for start in range(0, rows, self.micro_batch):
                some = slice(start, start + self.micro_batch)
                parts.append(
                    self.block(
                        **{
                            name: value[some] if name in self.batched else value
                            for name, value in inputs.items()
                        }
                    )
                )
        return tuple(torch.cat(streams) for streams in zip(*parts, strict=True))
