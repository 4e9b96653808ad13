"""A frozen LoRA that is on in training and off in pictures, and never exported.

A distilled model forgets its few steps while it is trained. An adapter that undoes the distillation
takes that upon itself: the trained LoRA then learns the subject alone (ostris, 2025:
zimage_turbo_training_adapter).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn


class TrainingAdapter:
    """The adapter on a model's linears. Its tensors are buffers of the linears, so that they are on
    the device whenever the linear is.

    layers: linear → (A (r, in), B (out, r)), in the model's type.
    """

    def __init__(self, model: nn.Module, layers: dict[str, tuple[Tensor, Tensor]]) -> None:
        self.is_on = True
        for name, (down, up) in layers.items():
            linear = model.get_submodule(name)
            linear.register_buffer("adapter_down", down, persistent=False)
            linear.register_buffer("adapter_up", up, persistent=False)
            linear.register_forward_hook(partial(_add, self))

    @contextmanager
    def off(self) -> Iterator[None]:
        """Context manager in which the model is without the adapter."""
        self.is_on = False
        try:
            yield
        finally:
            self.is_on = True


def _add(adapter: TrainingAdapter, linear: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
    """A forward hook: it replaces the linear's output."""
    if not adapter.is_on:
        return None
    down, up = linear.get_buffer("adapter_down"), linear.get_buffer("adapter_up")
    return output + nn.functional.linear(nn.functional.linear(args[0], down), up)
