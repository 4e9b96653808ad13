"""LoRAs of others on a model's frozen linears, on in training alone or in pictures alone.

A *training adapter* is on in training. A distilled model forgets its few steps while it is trained;
an adapter that undoes the distillation takes that upon itself, and the trained LoRA learns the
subject alone (ostris, 2025: zimage_turbo_training_adapter). A *few-step LoRA* is on in pictures: it
makes of a base model a distilled one. Neither is trained or exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn


class FrozenLora:
    """A LoRA whose tensors are buffers of the linears, so that they are on the device whenever the
    linear is.

    layers: linear → (A (r, in), B (out, r)), in the model's type. is_on: outside `switched`.
    """

    def __init__(
        self, model: nn.Module, layers: dict[str, tuple[Tensor, Tensor]], is_on: bool
    ) -> None:
        self.is_on = is_on
        for name, (down, up) in layers.items():
            linear = model.get_submodule(name)
            linear.register_buffer("frozen_down", down, persistent=False)
            linear.register_buffer("frozen_up", up, persistent=False)
            linear.register_forward_hook(partial(_add, self))

    @contextmanager
    def switched(self) -> Iterator[None]:
        """Context manager in which it is off if it was on, and on if it was off."""
        self.is_on = not self.is_on
        try:
            yield
        finally:
            self.is_on = not self.is_on


def _add(lora: FrozenLora, linear: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
    """A forward hook: it replaces the linear's output."""
    if not lora.is_on:
        return None
    down, up = linear.get_buffer("frozen_down"), linear.get_buffer("frozen_up")
    return output + nn.functional.linear(nn.functional.linear(args[0], down), up)
