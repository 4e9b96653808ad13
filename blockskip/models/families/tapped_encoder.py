"""A text encoder read at inner layers, which stops at the last of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel


class _StopForward(Exception):
    """Raised after the last wanted layer to end the forward pass early."""


class TappedEncoder(nn.Module):
    """A text encoder that returns the hidden states after `numbers` layers, by number.

    encoder: has its layers in `layers`; numbers count from 1. in_ram: keep the states in RAM, as
    many of them need more memory than a layer. The hooks of transformers are on the original
    layers, which run inside wrappers on one caption at a time (memory/layerwise.py). This class
    hooks the modules now in the layer list, and layers behind the last wanted state never run.
    """

    def __init__(
        self, encoder: PreTrainedModel, numbers: Sequence[int], in_ram: bool = False
    ) -> None:
        super().__init__()
        self.in_ram = in_ram
        self.encoder, self.numbers = encoder, tuple(numbers)
        self.dtype, self.device = encoder.dtype, encoder.device

    def forward(self, **encoder_kwargs: Any) -> SimpleNamespace:
        """Return `hidden_states`, {number: (B, S, D)}."""
        states: dict[int, Tensor] = {}
        encoder_kwargs.pop("output_hidden_states", None)

        def keep(number: int, state: Tensor) -> None:
            states[number] = state.cpu() if self.in_ram else state
            if len(states) == len(self.numbers):
                raise _StopForward

        with ExitStack() as stack:
            for number in self.numbers:
                handle = self.encoder.layers[number - 1].register_forward_hook(
                    lambda _module, _args, output, number=number: keep(number, output)
                )
                stack.callback(handle.remove)
            with suppress(_StopForward):
                self.encoder(**encoder_kwargs)
        return SimpleNamespace(hidden_states=states)
